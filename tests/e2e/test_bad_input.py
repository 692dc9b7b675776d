"""Bad input gets OpenAI's error object, the right 4xx, and the field's name."""

from __future__ import annotations

import base64
import io

import httpx
import pytest
from PIL import Image

pytestmark = [pytest.mark.ray, pytest.mark.slow]

HELLO = [{"role": "user", "content": "hello"}]


def image_message(url):
    """A message with one picture."""
    part = {"type": "image_url", "image_url": {"url": url}}
    return [{"role": "user", "content": [{"type": "text", "text": "what is it?"}, part]}]


def png(side):
    """A PNG data URL of a grey square."""
    buffer = io.BytesIO()
    Image.new("L", (side, side)).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


URL_FIELD = "messages.0.content.1.image_url.url"


@pytest.mark.parametrize(
    ("body", "status", "param", "code"),
    [
        (b'{"model": "auto", ', 400, None, "invalid_value"),
        ({"model": "nobody", "messages": HELLO}, 404, "model", "model_not_found"),
        (
            {"model": "auto", "messages": HELLO, "routing": {"cost_wieght": 1}},
            400,
            "routing.cost_wieght",
            "invalid_value",
        ),
        ({"model": "auto", "messages": []}, 400, "messages", "invalid_value"),
        (
            {"model": "auto", "messages": image_message("data:image/png;base64,aGVsbG8=")},
            400,
            URL_FIELD,
            "invalid_image",
        ),
        ({"model": "auto", "messages": image_message(png(8000))}, 400, URL_FIELD, "invalid_image"),
        (
            {"model": "auto", "messages": image_message("https://127.0.0.1/a.png")},
            400,
            URL_FIELD,
            "image_unreachable",
        ),
        (
            {"model": "auto", "messages": HELLO, "temperature": -3},
            400,
            "temperature",
            "invalid_value",
        ),
    ],
    ids=["json", "model", "routing", "no-message", "no-image", "pixels", "private", "engine"],
)
def test_faults_are_named(system, body, status, param, code):
    """Each fault has its status, its code and the field that it lies in."""
    content = {"content": body} if isinstance(body, bytes) else {"json": body}
    response = httpx.post(
        f"{system.url}/v1/chat/completions", **content, timeout=60, trust_env=False
    )
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (status, code), error
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"
    assert error["message"]


def test_nobody_left_is_a_503(system):
    """A request that every candidate is masked for gets 503, when to retry, and each reason."""
    body = {"model": "auto", "messages": HELLO, "routing": {"allow": ["nobody"]}}
    response = httpx.post(
        f"{system.url}/v1/chat/completions", json=body, timeout=60, trust_env=False
    )
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) >= 1
    assert response.json()["error"]["refusals"]["reader"] == "denied"
