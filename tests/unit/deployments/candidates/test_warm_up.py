"""A fresh engine is asked what others will ask it."""

import base64
from io import BytesIO

from PIL import Image

from deployments.candidates.warm_up import warm_up_bodies


def test_sampling_log_probabilities_and_pictures_are_asked_for():
    """By what OpenAI's clients send."""
    bodies = warm_up_bodies("small", ["text", "image"])
    assert {body["model"] for body in bodies} == {"small"}
    assert any(body["temperature"] > 0 and body["top_p"] < 1 for body in bodies)
    assert any(body["temperature"] == 0 for body in bodies)
    assert any(body.get("logprobs") for body in bodies)
    urls = [
        part["image_url"]["url"]
        for body in bodies
        for part in body["messages"][0]["content"]
        if isinstance(part, dict) and part["type"] == "image_url"
    ]
    (url,) = urls
    picture = Image.open(BytesIO(base64.b64decode(url.partition(",")[2])))
    assert picture.size == (224, 224)


def test_who_reads_no_pictures_gets_none():
    """It would refuse them."""
    assert "image_url" not in str(warm_up_bodies("small", ["text"]))
