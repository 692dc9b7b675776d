"""A candidate passes requests to a real endpoint, and tells each way to fail from the others."""

import asyncio
import logging
import time
from contextlib import aclosing

import pytest

from deployments.dispatching.dispatch import _whole
from deployments.protocol import read_events
from router.errors import InvalidInputError

PICTURE = "data:image/png;base64,iVBORw0KGgo="
CONTENT = [
    {"type": "text", "text": "What number?"},
    {"type": "image_url", "image_url": {"url": PICTURE}},
]


def body(*, stream=False, **more):
    """Return what dispatch sends."""
    found = {"model": "vendor", "messages": [{"role": "user", "content": CONTENT}], **more}
    options = {"stream_options": {"include_usage": True}} if stream else {}
    return found | {"stream": stream} | options


async def ask(candidate, *, stream=False, **more):
    """Return the answer's objects, read as dispatch reads them."""
    pieces = candidate.complete(body(stream=stream, **more))
    return [event async for event in (read_events if stream else _whole)(pieces)]


async def told(candidate, *, stream=False):
    """Return the error object that ends an answer."""
    return (await ask(candidate, stream=stream))[-1]["error"]


async def test_a_whole_answer_is_passed_on(make):
    """Text and usage arrive; the model goes by the candidate's name."""
    (completion,) = await ask(make("good"))
    assert completion["choices"][0]["message"]["content"] == "four hundred and two"
    assert completion["usage"]["prompt_tokens"] == 7
    assert completion["model"] == "vendor"


async def test_a_streamed_answer_is_passed_on(make):
    """Word by word, the usage last."""
    events = await ask(make("good"), stream=True)
    words = [event["choices"][0]["delta"].get("content", "") for event in events[:-1]]
    assert "".join(words) == "four hundred and two"
    assert events[-1]["usage"]["completion_tokens"] == 4
    assert {event["model"] for event in events} == {"vendor"}


@pytest.mark.parametrize("stream", [False, True])
async def test_the_endpoint_gets_the_request_as_it_is(make, upstream, stream):
    """Messages, the picture as a data URL and fields unknown to us, under the name used there."""
    candidate = make("good", drop_fields=["seed"])
    await ask(candidate, stream=stream, top_k=3, temperature=0.5, seed=1)
    (sent,) = upstream.seen.bodies
    expected = body(stream=stream, top_k=3, temperature=0.5)
    assert sent == expected | {"model": "good"}


async def test_the_key_comes_from_the_named_variable(make, upstream, monkeypatch):
    """And OpenAI's own variables are not for this endpoint."""
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "of-another-endpoint")
    monkeypatch.setenv("VENDOR_KEY", "sk-vendor")
    await ask(make("good", api_key_env="VENDOR_KEY"))
    await ask(make("good"))
    with_key, without = upstream.seen.headers
    assert with_key["authorization"] == "Bearer sk-vendor"
    assert "authorization" not in without
    assert "of-another-endpoint" not in {*with_key.values(), *without.values()}


def test_a_variable_that_is_not_set_is_named(make, monkeypatch):
    """The replica does not start, and Serve's status tells why."""
    monkeypatch.delenv("VENDOR_KEY", raising=False)
    with pytest.raises(InvalidInputError, match="VENDOR_KEY is not set on this node; set it"):
        make("good", api_key_env="VENDOR_KEY")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("model", "kind", "code"),
    [
        ("full", "rate_limit_exceeded", 429),
        ("no-quota", "rate_limit_exceeded", 429),
        ("broken", "endpoint_error", 502),
        ("overloaded", "endpoint_error", 502),
        ("html", "endpoint_error", 502),
        ("wrong-key", "endpoint_refused", 502),
        ("too-long", "invalid_request_error", 400),
        ("no-json", "endpoint_malformed", 502),
        ("no-choices", "endpoint_malformed", 502),
        ("list", "endpoint_malformed", 502),
    ],
)
async def test_each_failure_has_its_kind(make, upstream, model, kind, code, stream):
    """Nothing is raised, and the endpoint is asked once: retries are dispatch's."""
    error = await told(make(model), stream=stream)
    assert (error["type"], error["code"]) == (kind, code)
    assert len(upstream.seen.bodies) == 1


async def test_an_error_within_a_good_status_is_an_error(make):
    """Some gateways answer 200 to everything."""
    assert (await told(make("told-in-200")))["type"] == "endpoint_error"


async def test_an_empty_answer_is_none(make):
    """Neither a completion without a choice nor a stream without an event."""
    assert (await told(make("empty")))["type"] == "endpoint_malformed"
    assert (await told(make("empty"), stream=True))["type"] == "endpoint_cut"


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ("no-end", "endpoint_cut"),
        ("no-end-but-done", "endpoint_cut"),
        ("cut", "endpoint_cut"),
        ("told-midway", "endpoint_error"),
        ("no-json-midway", "endpoint_malformed"),
    ],
)
async def test_a_stream_that_breaks_says_how(make, model, kind):
    """What came before it was passed on; the error is the last event."""
    *words, last = await ask(make(model), stream=True)
    assert len(words) == 2
    assert last["error"]["type"] == kind


async def test_a_dead_endpoint_is_told_at_once(make):
    """Nobody listens."""
    candidate = make("good", base_url="http://127.0.0.1:9/v1")
    for stream in (False, True):
        assert (await told(candidate, stream=stream))["type"] == "endpoint_unreachable"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("limit", ["silence_timeout_s", "total_timeout_s"])
@pytest.mark.parametrize("model", ["hang", "stall"])
async def test_a_silent_endpoint_is_given_up(make, upstream, model, limit, stream):
    """Before the answer or within it, by either limit; the endpoint sees us leave."""
    start_s = time.monotonic()
    assert (await told(make(model, **{limit: 0.2}), stream=stream))["type"] == "endpoint_timeout"
    assert time.monotonic() - start_s < 2
    if model == "hang":
        await until(lambda: upstream.seen.num_left == 1)


async def test_words_without_end_have_an_end(make):
    """An endpoint that is never silent is held to the total."""
    *words, last = await ask(make("slow", total_timeout_s=0.12), stream=True)
    assert words
    assert last["error"]["type"] == "endpoint_timeout"


async def test_a_caller_that_leaves_stops_the_endpoint(make, upstream):
    """Before the first byte by cancelling, within a stream by closing; no work for nobody."""
    task = asyncio.create_task(ask(make("hang")))
    await until(lambda: upstream.seen.bodies)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: upstream.seen.num_left == 1)

    async with aclosing(make("slow").complete(body(stream=True))) as pieces:
        assert "four" in await anext(pieces)
    await until(lambda: upstream.seen.num_left == 2)


async def until(holds):
    """Wait for what the endpoint's thread is to see."""
    for _ in range(500):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came to pass")


@pytest.mark.parametrize(
    ("model", "rest_s"), [("full", 30), ("overloaded", 30), ("used-up", 30), ("no-quota", 300)]
)
async def test_a_full_endpoint_is_left_alone_until_it_said(make, upstream, clock, model, rest_s):
    """By retry-after, by the last allowed request, by an empty quota; then it is asked again."""
    candidate = make(model)
    await ask(candidate)
    clock.now_s += rest_s - 1
    error = await told(candidate)
    assert (error["type"], error["code"]) == ("rate_limit_exceeded", 429)
    assert error["retry_after_s"] == pytest.approx(1.0)
    assert len(upstream.seen.bodies) == 1
    clock.now_s += 1.5
    await ask(candidate)
    assert len(upstream.seen.bodies) == 2


async def test_a_streamed_answer_states_its_limits_too(make, upstream):
    """The headers come before the first word."""
    candidate = make("used-up")
    assert "error" not in (await ask(candidate, stream=True))[-1]
    assert (await told(candidate))["type"] == "rate_limit_exceeded"
    assert len(upstream.seen.bodies) == 1


async def test_only_a_bad_request_is_told_in_the_endpoints_words(make, caplog):
    """Its user has to mend it; other words may hold a piece of a prompt or of a key."""
    with caplog.at_level(logging.WARNING, logger="pointsman.candidate"):
        errors = [await told(make(model)) for model in ("too-long", "broken", "wrong-key")]
    assert (errors[0]["message"], errors[0]["param"]) == ("at most 512 tokens", "messages")
    assert [error["message"] for error in errors[1:]] == [
        "status 500 (some_type)",
        "status 401 (invalid_api_key)",
    ]
    for words in ("512 tokens", "secret", "sk-12"):
        assert words not in caplog.text


async def test_a_candidate_holds_many_requests_at_once(make):
    """They wait for the endpoint, not for one another."""
    candidate = make("slow")
    start_s = time.monotonic()
    answers = await asyncio.gather(*(ask(candidate, stream=True) for _ in range(50)))
    assert all("usage" in events[-1] for events in answers)
    assert time.monotonic() - start_s < 5


async def test_a_card_is_checked_where_it_arrives(make):
    """A faulty edit fails the update, which leaves the last card in force."""
    card = {"price": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 1}, "context_window": 8192}
    candidate = make("good")
    candidate.reconfigure(card)
    with pytest.raises(ValueError, match="context_window"):
        candidate.reconfigure(card | {"context_window": 0})


@pytest.mark.parametrize("num_chars", [10, 3_000_000])
async def test_a_body_of_any_size_arrives(make, upstream, num_chars):
    """Whole, whether it is sent at once or piece by piece."""
    await ask(make("good"), note="x" * num_chars)
    assert upstream.seen.bodies[0]["note"] == "x" * num_chars


async def test_integers_of_any_size_arrive(make, upstream):
    """The endpoint may refuse them; we have no opinion."""
    await ask(make("good"), seed=2**70)
    assert upstream.seen.bodies[0]["seed"] == 2**70


async def test_the_environments_proxy_is_used(make, upstream, monkeypatch):
    """For endpoints that are not excepted; here the endpoint itself stands for one."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("http_proxy", upstream.url.removesuffix("/v1"))
    candidate = make("good", base_url="http://vendor.invalid/v1")
    await ask(candidate)
    assert upstream.seen.headers[0]["host"] == "vendor.invalid"
