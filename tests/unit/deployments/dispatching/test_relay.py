"""A stream that breaks says so once, inside, and is put in order whoever ends it."""

import asyncio
import json
import logging

import pytest

from deployments.admission import OverloadedError, TooManyRequestsError
from deployments.attempts import AllFailedError, Answer
from deployments.dispatching.relay import Relay
from deployments.dispatching.replies import EventStream, error_response
from deployments.exchange import Exchange
from deployments.protocol import parse_chat_request
from monitoring.outcome import Status
from router.errors import CandidateReplyError
from router.records import Decision, Pool, Routing

BODY = {"model": "auto", "stream": True, "messages": [{"role": "user", "content": "What?"}]}
DECISION = Decision(
    decision_id="d1",
    router_version="7",
    feature_schema_hash="f",
    candidate_ids=("a",),
    refusals=(None,),
    choice="a",
)
WORD = {"choices": [{"index": 0, "delta": {"content": "red"}}]}
USAGE = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}


class Stream:
    """Sends chunks, then an error or silence; notes that it was cancelled."""

    def __init__(self, *chunks, error=None, silence_s=0.0):
        """Set what is sent."""
        self._chunks, self._error, self._silence_s = chunks, error, silence_s
        self.num_cancels = 0

    async def _events(self):
        for chunk in self._chunks:
            yield chunk
        await asyncio.sleep(self._silence_s)
        if self._error:
            raise self._error

    def _cancel(self):
        self.num_cancels += 1

    def relay(self, *, stall_s=5.0):
        """Return the relay of one exchange."""
        exchange = Exchange(
            call=parse_chat_request(json.dumps(BODY).encode()),
            routing=Routing(),
            pool=Pool(),
            arrived_s=0.0,
            decision=DECISION,
            answered_by="a",
        )
        return Relay(exchange, Answer("a", self._events(), 0.0, self._cancel), stall_s=stall_s)


async def read(relay):
    """Return the payloads of all events."""
    texts = [text.removeprefix("data: ").strip() async for text in relay.events()]
    return [text if text == "[DONE]" else json.loads(text) for text in texts]


async def test_a_whole_stream_is_passed_on():
    """The first chunk carries the receipt; the usage is kept, and not shown unasked."""
    relay = Stream(WORD, WORD, USAGE).relay()
    first, second, last = await read(relay)
    assert (first["pointsman"]["candidate"], second, last) == ("a", WORD, "[DONE]")
    assert (relay.status, relay.usage) == (Status.OK, USAGE["usage"])


@pytest.mark.parametrize(
    "stream",
    [Stream(WORD, error=CandidateReplyError("cut")), Stream(WORD, silence_s=60.0)],
    ids=["broken", "silent"],
)
async def test_a_stream_that_breaks_tells_one_error(stream, caplog):
    """Then it ends; nobody else is asked, and the candidate is stopped."""
    relay = stream.relay(stall_s=0.05)
    with caplog.at_level(logging.CRITICAL, logger="pointsman.ingress"):
        first, error, last = await read(relay)
    assert first["choices"]
    assert error["error"]["type"] == "server_error"
    assert last == "[DONE]"
    assert (relay.status, stream.num_cancels) == (Status.TRUNCATED, 1)


async def receive_nothing():
    """Wait for ever."""
    await asyncio.Event().wait()


@pytest.mark.parametrize("leaves", ["at once", "by cancellation"])
async def test_a_client_that_leaves_ends_the_stream(leaves):
    """Before the first event or in the middle: the end is told once, as cancelled."""
    relay, ends = Stream(WORD, silence_s=60.0).relay(), []
    response = EventStream(relay.events(), on_end=lambda: ends.append(relay.status), headers={})

    async def send(_):
        if leaves == "at once":
            raise OSError("the client is gone")

    scope = {"type": "http", "asgi": {"spec_version": "2.4"}}
    task = asyncio.create_task(response(scope, receive_nothing, send))
    await asyncio.sleep(0.02)
    task.cancel()
    (outcome,) = await asyncio.wait_for(asyncio.gather(task, return_exceptions=True), timeout=1.0)
    assert isinstance(outcome, BaseException)
    assert ends == [Status.CANCELLED]


def test_whoever_is_turned_away_learns_when_to_come_back():
    """429 for a key, 503 for all, in OpenAI's shape."""
    for error, status, code in (
        (TooManyRequestsError("wait", 1.2), 429, "rate_limit_exceeded"),
        (OverloadedError("full", 0.1), 503, "overloaded"),
    ):
        reply = error_response(error)
        body = json.loads(reply.body)["error"]
        assert (reply.status_code, body["code"], body["message"]) == (status, code, str(error))
        assert reply.headers["retry-after"] in {"1", "2"}


def test_when_nobody_answered_the_reasons_stay_inside(caplog):
    """They are in the log."""
    with caplog.at_level(logging.ERROR, logger="pointsman.ingress"):
        reply = error_response(AllFailedError("a: 10.0.0.3 refused"))
    assert reply.status_code >= 500
    assert b"10.0.0.3" not in reply.body
    assert "10.0.0.3" in caplog.text
