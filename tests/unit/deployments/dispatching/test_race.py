"""Whoever sends the first byte answers, once; the others are stopped, and retries are paid for."""

import asyncio
import time
from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.attempts import (
    AllFailedError,
    Answer,
    CandidateFailedError,
    CandidateGoneError,
    CandidateLostError,
    Log,
)
from deployments.dispatching.race import HUNG, SLOW, Doubt, Race, RaceEvent, RaceRules
from deployments.dispatching.retry_budget import RetryBudget, RetryRules
from router.errors import InvalidInputError


class Candidates:
    """Each answers or fails after a while, by a script of seconds and errors."""

    def __init__(self, **script):
        """Take ``(after_s, error or None)`` by name."""
        self.script = script
        self.asked, self.stopped, self.cancelled, self.ended = [], {}, [], []

    async def attempt(self, candidate_id, *, has_other):
        """Do as the script says."""
        del has_other
        self.asked.append(candidate_id)
        after_s, error = self.script[candidate_id]
        try:
            await asyncio.sleep(after_s)
        except asyncio.CancelledError as stop:
            self.stopped[candidate_id] = stop.args
            raise
        if error is not None:
            raise error
        answer = Answer(candidate_id, None, 0.0, lambda: self.cancelled.append(candidate_id))
        answer.end = lambda status: self.ended.append((candidate_id, status.value))
        return answer


class Rules:
    """Events, and a budget of so many retries."""

    def __init__(self, num_retries=99, hedge_after_s=None):
        """Note nothing yet."""
        self.num_retries, self.events = num_retries, []
        self.rules = RaceRules(self._take, hedge_after_s, self._note)

    def _take(self, _):
        self.num_retries -= 1
        return self.num_retries >= 0

    def _note(self, event, candidate_id):
        self.events.append((event, candidate_id))


async def run(candidates, ranking, rules=None, *, within_s=5.0, doubts=MappingProxyType({})):
    """Run one race; return the answer, its log and the events."""
    rules, log = rules or Rules(), Log(time.monotonic())
    race = Race(
        ranking,
        candidates.attempt,
        rules=rules.rules,
        deadline_s=log.arrived_s + within_s,
        log=log,
        doubt_of=lambda name: doubts.get(name, Doubt.NONE),
    )
    try:
        return await race.run(), log, rules.events
    finally:
        await asyncio.sleep(0.01)


BAD = CandidateFailedError("broken")


async def test_a_failure_moves_the_request_on():
    """To the next best, which is counted as a retry."""
    candidates = Candidates(a=(0, BAD), b=(0, None), c=(0, None))
    answer, log, events = await run(candidates, ["a", "b", "c"])
    assert (answer.candidate_id, candidates.asked) == ("b", ["a", "b"])
    assert [(a.candidate_id, a.error) for a in log.attempts] == [("a", "broken")]
    assert events == [(RaceEvent.RETRY, "b")]


async def test_without_budget_the_first_failure_is_the_last():
    """The error tells of the one that was tried."""
    candidates, rules = Candidates(a=(0, BAD), b=(0, None)), Rules(num_retries=0)
    with pytest.raises(AllFailedError, match="a: broken"):
        await run(candidates, ["a", "b"], rules)
    assert candidates.asked == ["a"]
    assert rules.events == [(RaceEvent.BUDGET_SPENT, "")]


async def test_the_error_tells_whom_the_request_lost():
    """Apart from those that failed otherwise: only a lost one may soon answer again."""
    died, left = CandidateLostError("engine"), CandidateGoneError("no replica")
    candidates = Candidates(a=(0, died), b=(0, BAD), c=(0, left))
    with pytest.raises(AllFailedError, match="a: engine; b: broken; c: no replica") as caught:
        await run(candidates, ["a", "b", "c"])
    assert caught.value.lost == {"a", "c"}


async def test_who_is_masked_by_now_is_asked_last():
    """It was ejected since the decision; yet better it than nobody."""
    candidates = Candidates(a=(0, None), b=(0, BAD))
    answer, *_ = await run(candidates, ["a", "b"], doubts={"a": Doubt.MASKED})
    assert (answer.candidate_id, candidates.asked) == ("a", ["b", "a"])


async def test_who_failed_of_late_is_asked_first_but_not_after_a_failure():
    """One failure is enough for a request; its retry goes to who answers."""
    candidates = Candidates(a=(0, BAD), b=(0, BAD), c=(0, None))
    doubts = {"a": Doubt.SUSPECT, "b": Doubt.SUSPECT}
    answer, *_ = await run(candidates, ["a", "b", "c"], doubts=doubts)
    assert (answer.candidate_id, candidates.asked) == ("c", ["a", "c"])


async def test_a_candidate_that_hangs_is_overtaken_in_half_of_the_time():
    """The next one answers before the deadline; the first is stopped and marked as hung."""
    candidates = Candidates(a=(60, None), b=(0, None))
    begun_s = time.monotonic()
    answer, log, events = await run(candidates, ["a", "b"], within_s=0.2)
    assert answer.candidate_id == "b"
    assert 0.09 <= time.monotonic() - begun_s < 0.2
    assert candidates.stopped == {"a": (HUNG,)}
    assert [a.error for a in log.attempts] == ["given up"]
    assert events == [(RaceEvent.HEDGE, "b")]


async def test_a_slow_first_may_still_win():
    """It is not stopped before another has a byte; then that other is."""
    candidates = Candidates(a=(0.15, None), b=(60, None))
    answer, *_ = await run(candidates, ["a", "b"], within_s=0.2)
    assert (answer.candidate_id, candidates.stopped) == ("a", {"b": ()})


async def test_without_budget_a_slow_candidate_is_waited_for():
    """It may answer at the last moment."""
    candidates = Candidates(a=(0.15, None), b=(0, None))
    answer, _, events = await run(candidates, ["a", "b"], Rules(num_retries=0), within_s=0.2)
    assert (answer.candidate_id, candidates.asked) == ("a", ["a"])
    assert events == [(RaceEvent.BUDGET_SPENT, "")]


async def test_at_most_one_hedge():
    """Two are slow; a third is not asked, though there is time."""
    candidates = Candidates(a=(0.2, None), b=(0.3, None), c=(0, None))
    answer, _, events = await run(candidates, ["a", "b", "c"], Rules(hedge_after_s=0.02))
    assert (answer.candidate_id, candidates.asked) == ("a", ["a", "b"])
    assert events == [(RaceEvent.HEDGE, "b")]
    assert candidates.stopped == {"b": (SLOW,)}


async def test_a_quick_answer_is_not_hedged():
    """Nor does a failure after a hedge leave the other one alone."""
    candidates = Candidates(a=(0, None), b=(0, None))
    await run(candidates, ["a", "b"], Rules(hedge_after_s=0.1))
    assert candidates.asked == ["a"]
    candidates = Candidates(a=(0.05, BAD), b=(0.1, None))
    answer, *_ = await run(candidates, ["a", "b"], Rules(hedge_after_s=0.01))
    assert answer.candidate_id == "b"


async def test_two_answers_at_once_leave_one():
    """The second is cancelled and told so."""
    candidates = Candidates(a=(0.05, None), b=(0.0, None))
    race_done = asyncio.Event()

    async def attempt(name, *, has_other):
        answer = await candidates.attempt(name, has_other=has_other)
        await race_done.wait()
        return answer

    both = Candidates()
    both.attempt = attempt
    race = asyncio.create_task(run(both, ["a", "b"], Rules(hedge_after_s=0.01)))
    await asyncio.sleep(0.1)
    race_done.set()
    answer, *_ = await race
    assert answer.candidate_id == "a"
    assert candidates.cancelled == ["b"]
    assert candidates.ended == [("b", "cancelled")]


async def test_when_the_user_leaves_all_attempts_stop():
    """At once, hedges too."""
    candidates = Candidates(a=(60, None), b=(60, None))
    race = asyncio.create_task(run(candidates, ["a", "b"], Rules(hedge_after_s=0.01)))
    await asyncio.sleep(0.05)
    begun_s = time.monotonic()
    race.cancel()
    with pytest.raises(asyncio.CancelledError):
        await race
    assert time.monotonic() - begun_s < 0.5
    assert candidates.stopped == {"a": (), "b": ()}


async def test_a_faulty_request_ends_the_race():
    """The other attempt is stopped."""
    candidates = Candidates(a=(60, None), b=(0, InvalidInputError("too long", "messages")))
    with pytest.raises(InvalidInputError, match="too long"):
        await run(candidates, ["a", "b"], Rules(hedge_after_s=0.01))
    assert candidates.stopped == {"a": ()}


@settings(deadline=None, max_examples=25)
@given(
    num_requests=st.integers(1, 120), share=st.floats(0.0, 1.0), num_candidates=st.integers(1, 4)
)
def test_under_total_failure_attempts_stay_within_the_budget(num_requests, share, num_candidates):
    """At most (1 + share) * requests, each of several candidates failing every time."""

    async def fail_all():
        budget = RetryBudget(RetryRules(share=share, min_per_s=0.0), time.monotonic())
        names = "abcd"[:num_candidates]
        candidates = Candidates(**dict.fromkeys(names, (0, BAD)))
        for _ in range(num_requests):
            budget.note_request(time.monotonic())
            log = Log(time.monotonic())
            race = Race(
                names,
                candidates.attempt,
                rules=RaceRules(budget.take),
                deadline_s=log.arrived_s + 5.0,
                log=log,
            )
            with pytest.raises(AllFailedError):
                await race.run()
        return len(candidates.asked)

    num_attempts = asyncio.run(fail_all())
    assert num_requests <= num_attempts <= (1 + share) * num_requests + 1e-6
