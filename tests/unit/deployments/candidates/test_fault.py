"""What a candidate tells of a failure is what dispatch makes of it."""

import json

import pytest

from deployments.attempts import CandidateBusyError, CandidateFailedError, CandidateLostError
from deployments.candidates.fault import (
    Fault,
    FaultKind,
    engine_failure,
    fault_of,
    told_fault,
)
from deployments.dispatching.dispatch import _chain
from deployments.dispatching.failures import failure_of, raise_error
from deployments.protocol import read_events
from router.errors import CandidateReplyError, InvalidInputError

KINDS = {
    FaultKind.RATE_LIMITED: CandidateBusyError,
    FaultKind.BAD_REQUEST: InvalidInputError,
}


async def pieces(*texts):
    """Yield what a candidate sends."""
    for text in texts:
        yield text


@pytest.mark.parametrize("kind", FaultKind)
@pytest.mark.parametrize("stream", [False, True])
async def test_dispatch_tells_each_kind(kind, stream):
    """Busy ones rest, bad requests go back to their user, others move on with their kind named."""
    text = Fault(kind=kind, message="why").text(is_stream=stream)
    (event,) = [e async for e in read_events(pieces(text))] if stream else [json.loads(text)]
    with pytest.raises(KINDS.get(kind, CandidateFailedError), match="why") as caught:
        raise_error(event)
    assert (kind.value in str(caught.value)) is (kind is not FaultKind.BAD_REQUEST)


class EngineDeadError(Exception):
    """As vLLM names its own."""


@pytest.mark.parametrize("stream", [False, True])
async def test_a_dead_engine_is_told_in_words(stream):
    """Dispatch knows it by its name, and needs nothing of vLLM to read it."""
    text = engine_failure(EngineDeadError("see the stack trace"), is_stream=stream)
    (event,) = [e async for e in read_events(pieces(text))] if stream else [json.loads(text)]
    with pytest.raises(CandidateFailedError, match="EngineDeadError: see") as caught:
        raise_error(event)
    assert type(failure_of(caught.value)) is CandidateLostError


def test_a_busy_one_says_for_how_long():
    """To the millisecond."""
    fault = Fault(kind=FaultKind.RATE_LIMITED, message="full", retry_after_s=12.3456)
    with pytest.raises(CandidateBusyError) as caught:
        raise_error(json.loads(fault.text(is_stream=False)))
    assert caught.value.retry_after_s == 12.346


@pytest.mark.parametrize("kind", FaultKind)
async def test_an_error_after_the_first_byte_ends_the_answer(kind):
    """Of whatever kind: the user has a part of it already, and is not to blame."""
    events = _chain(
        {"n": 1}, read_events(pieces(Fault(kind=kind, message="why").text(is_stream=True)))
    )
    assert await anext(events) == {"n": 1}
    with pytest.raises(CandidateReplyError, match="why"):
        await anext(events)


def test_long_words_are_cut():
    """Endpoints answer with whole pages."""
    fault = Fault(kind=FaultKind.BAD_REQUEST, message="x" * 10_000)
    assert len(fault.text(is_stream=False)) < 500


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (json.JSONDecodeError("", "", 0), FaultKind.MALFORMED),
        (RecursionError(), FaultKind.MALFORMED),
        (TimeoutError(), FaultKind.TIMEOUT),
    ],
)
def test_exceptions_that_are_not_the_clients_have_a_kind(error, kind):
    """JSON that is none or too deep, and our own limit."""
    assert fault_of(error, has_begun=False).kind is kind


def test_what_was_not_foreseen_is_no_fault():
    """A mistake of ours is raised, not told as the endpoint's."""
    assert fault_of(KeyError("model"), has_begun=False) is None
    assert fault_of(TypeError("no"), has_begun=True) is None


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"message": "no", "code": 429}, FaultKind.RATE_LIMITED),
        ({"message": "no", "code": 400}, FaultKind.BAD_REQUEST),
        ({"message": "no", "code": 404}, FaultKind.REFUSED),
        ({"message": "no", "code": 503}, FaultKind.SERVER_ERROR),
        ({"message": "no", "code": "server_error"}, FaultKind.SERVER_ERROR),
        ({"param": 7, "code": 400}, FaultKind.BAD_REQUEST),
        ("no", FaultKind.SERVER_ERROR),
        (None, FaultKind.SERVER_ERROR),
        ([], FaultKind.SERVER_ERROR),
    ],
)
def test_an_error_object_is_read_whatever_its_shape(body, kind):
    """By its code where it is a status; else the endpoint failed."""
    assert told_fault(body).kind is kind
