"""Which failures of an attempt eject its candidate, and which say nothing of it."""

import asyncio
import contextlib
import dataclasses
import time

import pytest
from dispatchers import (
    Engine,
    JudgingDispatcher,
    call,
)
from ray.exceptions import ActorDiedError

from deployments.attempts import (
    CandidateBusyError,
    CandidateDeadError,
    CandidateGoneError,
    CandidateLostError,
)
from deployments.dispatching import dispatch
from deployments.dispatching.dispatch import (
    AllFailedError,
    CandidateFailedError,
    Log,
)
from deployments.dispatching.failures import failure_of
from deployments.dispatching.retry_budget import RetryBudget, RetryRules
from monitoring.outcome import Status
from router.errors import InvalidInputError


@pytest.fixture(autouse=True)
def _looks_are_quick(monkeypatch):
    monkeypatch.setattr(dispatch, "POOL_CHECK_S", 0.01)


@pytest.fixture
def log():
    """Return the attempts of a request that arrived now."""
    return Log(time.monotonic())


async def test_a_dead_engine_is_masked_by_its_first_failure(log):
    """Requests that follow do not find out again."""
    dispatcher = JudgingDispatcher({"a": CandidateDeadError("engine"), "b": 1})
    await call(dispatcher, ["a", "b"], log=log)
    assert dispatcher.ejected() == {"a"}
    assert dispatcher.events == [("ejected", "a"), ("retry", "b")]


async def test_one_dead_replica_of_several_is_one_failure(log):
    """The others may be well."""
    dispatcher = JudgingDispatcher({"a": CandidateDeadError("engine"), "b": 1}, num_running=2)
    for _ in range(2):
        await call(dispatcher, ["a", "b"], log=log)
    assert dispatcher.ejected() == frozenset()
    await call(dispatcher, ["a", "b"], log=log)
    assert dispatcher.ejected() == {"a"}


@pytest.mark.parametrize(
    "error",
    [
        CandidateBusyError("full", 2.0),
        CandidateGoneError("drained"),
        InvalidInputError("too long", "messages"),
    ],
)
async def test_who_is_full_gone_or_right_is_not_ejected(error, log):
    """Fullness is told to the pool; a fault of the request is an answer."""
    dispatcher = JudgingDispatcher({"a": error, "b": 1})
    for _ in range(5):
        with contextlib.suppress(InvalidInputError):
            await call(dispatcher, ["a", "b"], log=log)
    assert dispatcher.ejected() == frozenset()
    assert bool(dispatcher.busy) == isinstance(error, CandidateBusyError)


async def test_streams_that_break_eject_too(log):
    """Each began well; three broke."""
    dispatcher = JudgingDispatcher({"a": 1})
    for _ in range(3):
        (await call(dispatcher, ["a"], log=log)).end(Status.TRUNCATED)
    assert dispatcher.ejected() == {"a"}


async def test_a_user_who_leaves_says_nothing_of_the_candidate(log):
    """Neither good nor bad."""
    dispatcher = JudgingDispatcher({"a": 1})
    for status in (Status.TRUNCATED, Status.TRUNCATED, Status.CANCELLED):
        (await call(dispatcher, ["a"], log=log)).end(status)
    assert dispatcher.ejected() == frozenset()
    (await call(dispatcher, ["a"], log=log)).end(Status.TRUNCATED)
    assert dispatcher.ejected() == {"a"}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ActorDiedError(), CandidateLostError),
        (RuntimeError("EngineDeadError: EngineCore encountered an issue."), CandidateLostError),
        (CandidateFailedError("endpoint_unreachable: no connection"), CandidateDeadError),
        (RuntimeError("out of memory"), CandidateFailedError),
        (StopAsyncIteration(), CandidateFailedError),
    ],
)
def test_a_dead_engine_is_told_from_a_failure(error, kind):
    """By Ray's exception, vLLM's words or an endpoint's."""
    assert type(failure_of(error)) is kind


async def test_who_fails_is_asked_last_even_where_so_many_do_that_nobody_is_masked(log):
    """Three of four are bad, which is a panic: the fourth is asked first."""
    dispatcher = JudgingDispatcher({"a": CandidateDeadError("engine"), "d": 1})
    for name in "abc":
        dispatcher.ejection.fail(
            dispatcher.ejection.begin(name, 0.0), time.monotonic(), is_fatal=True
        )
    assert dispatcher.ejected() == frozenset()
    answer = await call(dispatcher, ["a", "b", "c", "d"], log=log, max_attempts=2)
    assert (answer.candidate_id, log.attempts) == ("d", [])


async def test_candidates_that_go_bad_at_once_use_up_few_retries(log):
    """The good one is the last in the ranking; five retries are enough for every request."""
    budget = RetryBudget(RetryRules(share=0.0, min_per_s=0.5), time.monotonic())
    script = dict.fromkeys("abc", CandidateFailedError("broken")) | {"d": 1}
    dispatcher = JudgingDispatcher(script, budget=budget)
    answers = [await call(dispatcher, "abcd", log=log) for _ in range(20)]
    assert {answer.candidate_id for answer in answers} == {"d"}
    assert [a.candidate_id for a in log.attempts[:3]] == ["a", "b", "c"]
    assert budget.balance(time.monotonic()) >= 1.0


async def test_the_good_one_is_among_the_few_that_are_asked(log):
    """Three failed of late and two attempts are allowed: the second is the last in rank."""
    script = dict.fromkeys("abc", CandidateFailedError("broken")) | {"d": 1}
    dispatcher = JudgingDispatcher(script)
    for name in "abc":
        dispatcher.ejection.fail(dispatcher.ejection.begin(name, 0.0), time.monotonic())
    answer = await call(dispatcher, "abcd", log=log, max_attempts=2)
    assert (answer.candidate_id, [a.candidate_id for a in log.attempts]) == ("d", ["a"])


async def test_no_more_are_asked_than_allowed(log):
    """Though others are left."""
    dispatcher = JudgingDispatcher(dict.fromkeys("abc", CandidateFailedError("broken")) | {"d": 1})
    with pytest.raises(AllFailedError):
        await call(dispatcher, "abcd", log=log, max_attempts=3)
    assert [a.candidate_id for a in log.attempts] == ["a", "b", "c"]


class SilentDispatcher(JudgingDispatcher):
    """In which a is silent until it is stopped."""

    async def _attempt(self, candidate_id, body, **options):
        """Wait for the first event as for any other."""
        if candidate_id == "a":
            awaitable = Engine(after_s=60.0).answer()
            return await self._first(
                awaitable, "a", deadline_s=options["deadline_s"], waits_for_start=False
            )
        return await super()._attempt(candidate_id, body)


@pytest.mark.parametrize("ranking", [["a", "b"], ["a"]])
async def test_a_candidate_that_hangs_is_ejected(log, ranking):
    """Whether another overtook it or nobody did."""
    dispatcher = SilentDispatcher({"b": 1})
    for _ in range(3):
        with contextlib.suppress(AllFailedError):
            await call(dispatcher, ranking, log=log, within_s=0.04)
        await asyncio.sleep(0.01)
    assert dispatcher.ejected() == {"a"}


@pytest.mark.parametrize("ranking", [["a", "b"], ["a"]])
async def test_nobody_is_ejected_by_users_without_patience(log, ranking):
    """Silence for less than a fair time says nothing."""
    dispatcher = SilentDispatcher({"b": 1})
    dispatcher._fair_wait_s = 1.0
    for _ in range(5):
        with contextlib.suppress(AllFailedError):
            await call(dispatcher, ranking, log=log, within_s=0.04)
        await asyncio.sleep(0.01)
    assert dispatcher.ejected() == frozenset()


@pytest.mark.parametrize(("answers_others", "ejected"), [(False, {"a"}), (True, frozenset())])
async def test_who_is_overtaken_is_ejected_if_it_was_silent_to_everybody(
    log, answers_others, ejected
):
    """One that is merely slow answers others meanwhile."""
    dispatcher = SilentDispatcher({"b": 1})
    dispatcher._fair_wait_s = 1.0
    dispatcher._race_rules = dataclasses.replace(dispatcher._race_rules, hedge_after_s=0.02)
    for _ in range(3):
        asking = asyncio.create_task(call(dispatcher, ["a", "b"], log=log))
        await asyncio.sleep(0.01)
        if answers_others:
            dispatcher._answered_s["a"] = time.monotonic()
        assert (await asking).candidate_id == "b"
        await asyncio.sleep(0.01)
    assert dispatcher.ejected() == ejected
