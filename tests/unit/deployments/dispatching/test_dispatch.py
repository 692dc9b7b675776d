"""An answer is whole, a failure is told from a fault, and nobody is waited for in vain."""

import asyncio
import time

import pytest
from dispatchers import (
    ChangingPool,
    Engine,
    ScriptedDispatcher,
    call,
    pieces,
)

from deployments.attempts import CandidateGoneError
from deployments.dispatching import dispatch
from deployments.dispatching.dispatch import (
    AllFailedError,
    CandidateFailedError,
    Dispatcher,
    Log,
    _chain,
    _whole,
)
from deployments.dispatching.failures import raise_error
from router.errors import CandidateReplyError, InvalidInputError
from router.records import Refusal


async def all_of(events):
    """Return all events."""
    return [event async for event in events]


async def test_a_reply_may_come_in_pieces():
    """They make one JSON object together."""
    assert await all_of(_whole(pieces('{"choices"', ": []}"))) == [{"choices": []}]


@pytest.mark.parametrize("text", ["", "no JSON", "[]", "7", '"words"'])
async def test_a_reply_that_is_no_object_is_refused(text):
    """OpenAI's protocol knows objects only."""
    with pytest.raises(CandidateReplyError, match="the reply is not"):
        await all_of(_whole(pieces(text)))


def test_a_completion_is_no_error():
    """Neither without the field nor with a null in it."""
    raise_error({"choices": []})
    raise_error({"choices": [], "error": None})


@pytest.mark.parametrize("param", ["messages.0.content", None])
def test_a_fault_of_the_request_is_the_users(param):
    """Codes 400 to 499: no other candidate would take it; the field is handed on."""
    with pytest.raises(InvalidInputError, match="too long") as caught:
        raise_error({"error": {"message": "too long", "code": 400, "param": param}})
    assert caught.value.field == (param or "")


@pytest.mark.parametrize(
    "error",
    [
        {"message": "out of memory", "code": 500},
        {"message": "out of memory"},
        {"message": "out of memory", "code": "400"},
        "out of memory",
    ],
)
def test_any_other_error_is_the_candidates(error):
    """Another candidate may do better."""
    with pytest.raises(CandidateFailedError, match="out of memory"):
        raise_error({"error": error})


async def test_the_first_event_leads_the_rest():
    """It was taken to see whether there is an answer, and is not lost."""
    assert await all_of(_chain({"n": 1}, pieces({"n": 2}, {"n": 3}))) == [
        {"n": 1},
        {"n": 2},
        {"n": 3},
    ]


def test_attempts_count_from_the_arrival():
    """Start in seconds after the request, duration until now."""
    log = Log(arrived_s=time.monotonic() - 3.0)
    log.add("small", log.arrived_s + 1.0, "it went away")
    (attempt,) = log.attempts
    assert (attempt.candidate_id, attempt.error) == ("small", "it went away")
    assert attempt.started_s == pytest.approx(1.0)
    assert attempt.duration_s == pytest.approx(2.0, abs=0.5)


@pytest.fixture(autouse=True)
def _looks_are_quick(monkeypatch):
    monkeypatch.setattr(dispatch, "POOL_CHECK_S", 0.01)


async def first(pool, awaitable, *, within_s=5.0, waits_for_start=False):
    """Wait for the first event of the small candidate."""
    return await Dispatcher(pool)._first(
        awaitable,
        "small",
        deadline_s=time.monotonic() + within_s,
        waits_for_start=waits_for_start,
    )


async def test_a_quick_answer_needs_no_look_at_the_pool():
    """The usual case costs nothing."""
    pool = ChangingPool(None)
    assert await first(pool, Engine(after_s=0.0).answer()) == {"choices": []}
    assert pool.num_looks == 0


@pytest.mark.parametrize("refusal", [None, Refusal.STARTING, Refusal.SATURATED])
async def test_a_candidate_that_works_or_starts_is_waited_for(refusal):
    """Looks at the pool go on until it answers."""
    pool = ChangingPool(refusal)
    assert await first(pool, Engine(after_s=0.05).answer()) == {"choices": []}
    assert pool.num_looks >= 1


@pytest.mark.parametrize(
    "state", [Refusal.COLD, Refusal.DRAINING, Refusal.NO_REPLICA, "gone"], ids=str
)
async def test_a_candidate_that_went_away_is_not_waited_for(state):
    """Its work is stopped, and the next candidate can be tried at once."""
    engine = Engine(after_s=60.0)
    with pytest.raises(CandidateFailedError, match="its replicas went away"):
        await first(ChangingPool(None, None, state), engine.answer())
    await asyncio.sleep(0)
    assert engine.was_stopped


async def test_a_pinned_request_waits_for_a_start():
    """Cold, then starting, then there; but one that left the pool does not come back."""
    pool = ChangingPool(Refusal.COLD, Refusal.STARTING, None)
    answer = await first(pool, Engine(after_s=0.1).answer(), waits_for_start=True)
    assert answer == {"choices": []}
    with pytest.raises(CandidateFailedError, match="went away"):
        await first(ChangingPool("gone"), Engine(after_s=60.0).answer(), waits_for_start=True)


async def test_nobody_is_waited_for_beyond_the_deadline():
    """Even if it still works."""
    engine = Engine(after_s=60.0)
    with pytest.raises(CandidateFailedError, match="before the deadline"):
        await first(ChangingPool(None), engine.answer(), within_s=0.03)
    await asyncio.sleep(0)
    assert engine.was_stopped


async def test_a_candidates_own_error_comes_through():
    """The caller makes of it what it is."""

    async def fail():
        raise CandidateReplyError("not JSON")

    with pytest.raises(CandidateReplyError, match="not JSON"):
        await first(ChangingPool(None), fail())


@pytest.fixture
def log():
    """Return the attempts of a request that arrived now."""
    return Log(time.monotonic())


async def test_the_first_that_answers_ends_the_search(log):
    """Failures before it are noted; nobody after it is asked."""
    dispatcher = ScriptedDispatcher({"a": CandidateFailedError("cold"), "b": 1, "c": 1})
    answer = await call(dispatcher, ["a", "b", "c"], log=log)
    assert answer.candidate_id == "b"
    assert [(attempt.candidate_id, attempt.error) for attempt in log.attempts] == [("a", "cold")]
    assert dispatcher.bodies == [{"model": "a"}, {"model": "b"}]


async def test_a_faulty_request_is_tried_once(log):
    """Another candidate would find the same fault; the user is told."""
    dispatcher = ScriptedDispatcher({"a": InvalidInputError("too long", "messages"), "b": 1})
    with pytest.raises(InvalidInputError, match="too long"):
        await call(dispatcher, ["a", "b"], log=log)
    assert [attempt.error for attempt in log.attempts] == ["too long"]


async def test_when_all_fail_each_says_why(log):
    """The reasons are in the error, in order."""
    dispatcher = ScriptedDispatcher(
        {"a": CandidateFailedError("cold"), "b": CandidateFailedError("gone")}
    )
    with pytest.raises(AllFailedError, match=r"no candidate answered \(a: cold; b: gone\)"):
        await call(dispatcher, ["a", "b"], log=log)


async def test_after_the_deadline_nobody_else_is_tried(log):
    """The user has no time left for another answer."""
    dispatcher = ScriptedDispatcher({"a": CandidateFailedError("slow"), "b": 1})
    with pytest.raises(AllFailedError):
        await call(dispatcher, ["a", "b"], log=log, within_s=0.0)
    assert len(dispatcher.bodies) == 1


async def test_a_start_is_not_waited_for_where_another_can_answer():
    """The engine died and a new one takes a minute to start."""
    with pytest.raises(CandidateGoneError):
        await Dispatcher(ChangingPool(None, Refusal.STARTING))._first(
            Engine(after_s=60.0).answer(),
            "small",
            deadline_s=time.monotonic() + 5.0,
            waits_for_start=False,
            has_other=True,
        )
