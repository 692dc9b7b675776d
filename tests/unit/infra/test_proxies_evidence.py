"""What is measured of two proxies, without either of them."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from infra.evidence.serving import proxies
from infra.evidence.serving.proxy_load import (
    NUM_IMAGE_BYTES,
    Payloads,
    Turns,
    figures,
    jpeg,
    stamped,
)
from infra.evidence.serving.proxy_sides import LOCK, litellm_config, pointsman_config, role_of
from infra.serve_config import check_serve_config
from router.features.picture import EncodedPicture, Picture, PictureLimits, check_picture


def side(*, num_requests=1000, num_failed=0, p99_s=0.1, **cpu_s):
    """Return the figures of one side."""
    return {
        "num_requests": num_requests,
        "num_failed": num_failed,
        "elapsed_s": 10.0,
        "p50_s": p99_s / 2,
        "p99_s": p99_s,
        "cpu_s": cpu_s,
    }


def result(ours, theirs, **memory):
    """Return a part's result."""
    return {
        "versions": {"litellm": "1.0", "uvicorn": "0.1"},
        "num_workers": 2,
        "minutes": 20.0,
        "loads": [
            {"kind": "text", "concurrency": 8, "sides": {"Pointsman": ours, "LiteLLM": theirs}}
        ],
        "memory": {"num_requests": {"Pointsman": 5}, "roles": memory} if memory else None,
    }


@pytest.fixture(scope="module")
def payloads():
    """Return a maker of bodies."""
    return Payloads()


def url_of(body):
    """Return the picture's data URL."""
    return json.loads(body)["messages"][0]["content"][1]["image_url"]["url"]


def test_every_body_is_one_of_its_own(payloads):
    """Texts of one length, pictures of 200 kB as base64 that any reader takes."""
    texts = {payloads.body("text") for _ in range(100)}
    assert len(texts) == 100
    assert {len(json.loads(text)["messages"][0]["content"]) for text in texts} == {200}
    urls = {url_of(payloads.body("image")) for _ in range(40)}
    assert len(urls) == 40
    for url in urls:
        data = base64.b64decode(url.partition(",")[2], validate=True)
        assert 0.95 * NUM_IMAGE_BYTES <= len(data) <= NUM_IMAGE_BYTES + 100


def test_a_stamped_picture_shows_the_same():
    """Its number stands in a comment; a check by header and end is enough for it."""
    data = jpeg(np.random.default_rng(1))
    one, other = stamped(data, 1), stamped(data, 2)
    assert one != other
    pixels = [np.asarray(Image.open(io.BytesIO(each))) for each in (data, one, other)]
    assert np.array_equal(pixels[0], pixels[1])
    assert np.array_equal(pixels[0], pixels[2])
    picture = check_picture(one, limits=PictureLimits())
    assert isinstance(picture, EncodedPicture)
    assert not isinstance(picture, Picture)


def test_figures_tell_quantiles_and_rates():
    """p99 of 1..100 ms is between the last two."""
    turns = Turns(num_requests=100, latencies_s=[0.001 * n for n in range(1, 101)])
    told = figures(turns)
    assert told["p50_s"] == pytest.approx(0.0505)
    assert 0.099 <= told["p99_s"] <= 0.1


def test_only_the_path_of_a_request_counts():
    """1000 requests for 2 + 1 + 1 CPU seconds are 250 a core; all of Ray included, 100."""
    told = side(HAProxy=1.0, ingress=2.0, candidate=1.0, router=5.0, Ray=1.0)
    assert proxies.per_core_s(told) == pytest.approx(250)
    assert proxies.per_core_s(told, None) == pytest.approx(100)


def test_twice_as_good_holds_and_less_does_not():
    """In requests per core and in p99, each by itself."""
    theirs = side(p99_s=0.2, LiteLLM=8.0)
    good = proxies.lines(result(side(p99_s=0.1, ingress=4.0), theirs))
    assert [entry.holds for entry in good] == [True, True]
    assert [entry.figure for entry in good] == [2.0, 2.0]
    slow = proxies.lines(result(side(p99_s=0.11, ingress=4.0), theirs))
    assert [entry.holds for entry in slow] == [True, False]
    dear = proxies.lines(result(side(p99_s=0.1, ingress=4.1), theirs))
    assert [entry.holds for entry in dear] == [False, True]


def test_a_failed_request_spoils_the_comparison():
    """Of either side: errors are quick."""
    for ours, theirs in ((1, 0), (0, 1)):
        told = proxies.lines(
            result(
                side(num_failed=ours, p99_s=0.1, ingress=1.0),
                side(num_failed=theirs, p99_s=1.0, LiteLLM=9.0),
            )
        )
        assert not any(entry.holds for entry in told)


def test_growth_is_a_line_through_what_comes_after_the_start():
    """100 MB that jump to 200 in the first minute and then grow by half a MB a minute."""
    samples = [(0.0, 100.0), *((60.0 * n, 200.0 + 0.5 * n) for n in range(1, 21))]
    told = proxies.grown(samples, settle_s=60.0)
    assert told["slope_mb_per_min"] == pytest.approx(0.5)
    assert (told["first_mb"], told["last_mb"]) == (100.0, 210.0)
    assert proxies.grown([(0.0, 5.0)], settle_s=9.0)["slope_mb_per_min"] == 0.0


def test_the_slope_is_that_of_the_path():
    """LiteLLM's stands beside it, the router's in the section."""
    roles = {
        role: {"first_mb": 1.0, "last_mb": 2.0, "slope_mb_per_min": slope}
        for role, slope in (("ingress", 0.4), ("candidate", 0.3), ("LiteLLM", 7.5), ("router", 9))
    }
    told = result(side(ingress=4.0), side(LiteLLM=8.0), **roles)
    last = proxies.lines(told)[-1]
    assert (last.figure, last.holds) == (0.7, True)
    assert "LiteLLM 7.50" in last.unit
    assert "| router | 1.00 | 2.00 | 9.00 |" in proxies.section(told)


def test_the_section_shows_both_sides():
    """Side by side, and says where memory was not watched."""
    text = proxies.section(result(side(ingress=4.0, Ray=4.0), side(LiteLLM=8.0)))
    assert "| text | 8 | Pointsman | 1000 | 0 | 100 | 50.0 | 100.0 | 250 |" in text
    assert "| text | 8 | LiteLLM | 1000 | 0 | 100 | 50.0 | 100.0 | 125 |" in text
    assert "ingress 4.00, Ray 4.00 | 125 |" in text
    assert "Memory was not watched" in text


def test_the_config_is_one_that_can_be_deployed(tmp_path):
    """The checker that stands before every deployment takes it."""
    path = tmp_path / "pointsman.yaml"
    path.write_text(json.dumps(pointsman_config("http://127.0.0.1:9/v1")))
    names = [app["name"] for app in check_serve_config(path, root=tmp_path)["applications"]]
    assert names == ["router", "candidate-instant"]
    assert litellm_config("http://127.0.0.1:9/v1")["litellm_settings"]["set_verbose"] is False


def test_processes_have_roles():
    """By their command lines; what is unknown is Ray's."""
    assert role_of(["ray::ServeReplica:router:ingress"]) == "ingress"
    assert role_of(["/usr/bin/haproxy", "-f", "x"]) == "HAProxy"
    assert role_of(["gcs_server"]) == "Ray"


def test_the_lock_names_no_registry():
    """Every package comes with its hashes, from wherever the host gets packages."""
    text = LOCK.read_text()
    assert "litellm==" in text
    assert "://" not in text
    assert text.count("--hash=sha256:") > text.count("==")
