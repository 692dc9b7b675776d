"""An answer is whole, a failure is told from a fault, and nobody is waited for in vain."""

import asyncio
import contextlib
import dataclasses
import time

import pytest
from ray.exceptions import ActorDiedError

from deployments import dispatch
from deployments.attempts import CandidateBusyError, CandidateDeadError, CandidateGoneError
from deployments.dispatch import (
    AllFailedError,
    Answer,
    CandidateFailedError,
    Dispatcher,
    Log,
    _chain,
    _failure,
    _raise_error,
    _whole,
)
from deployments.ejection import Ejection
from monitoring.outcome import Status
from router.candidate import Candidate, Price
from router.errors import CandidateReplyError, InvalidInputError
from router.records import Pool, Refusal, Standing

SMALL = Candidate(id="small", price=Price(input_usd_per_mtok=1.0, output_usd_per_mtok=1.0))


async def pieces(*texts):
    """Yield what a candidate sends."""
    for text in texts:
        yield text


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
    _raise_error({"choices": []})
    _raise_error({"choices": [], "error": None})


@pytest.mark.parametrize("param", ["messages.0.content", None])
def test_a_fault_of_the_request_is_the_users(param):
    """Codes 400 to 499: no other candidate would take it; the field is handed on."""
    with pytest.raises(InvalidInputError, match="too long") as caught:
        _raise_error({"error": {"message": "too long", "code": 400, "param": param}})
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
        _raise_error({"error": error})


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


class ChangingPool:
    """The pool as it looks at each look; the last look stays."""

    def __init__(self, *refusals):
        """Take the refusals of the one candidate in turn; ``gone`` leaves it out."""
        self._refusals = list(refusals)
        self.num_looks = 0

    def __call__(self):
        """Return the pool of the moment."""
        refusal = self._refusals[min(self.num_looks, len(self._refusals) - 1)]
        self.num_looks += 1
        if refusal == "gone":
            return Pool()
        return Pool(standings=(Standing(candidate=SMALL, refusal=refusal),))


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


class Engine:
    """Answers after a while and notes if it was stopped."""

    def __init__(self, *, after_s):
        """Set how long it works."""
        self._after_s = after_s
        self.was_stopped = False

    async def answer(self):
        """Return the first event."""
        try:
            await asyncio.sleep(self._after_s)
        except asyncio.CancelledError:
            self.was_stopped = True
            raise
        return {"choices": []}


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


class ScriptedDispatcher(Dispatcher):
    """Meets each candidate with what the script holds for it: an answer or an error."""

    def __init__(self, script):
        """Take answers and errors by candidate."""
        super().__init__(Pool)
        self._script = script
        self.bodies = []

    async def _attempt(self, candidate_id, body, **_):
        """Do as the script says."""
        self.bodies.append(body)
        if isinstance(self._script[candidate_id], Exception):
            raise self._script[candidate_id]
        return Answer(candidate_id, pieces(), 0.0, lambda: None)


async def call(dispatcher, ranking, *, log, within_s=5.0, **options):
    """Try the candidates in order, each with its own name in its body."""
    return await dispatcher.call(
        ranking,
        lambda name: {"model": name},
        deadline_s=time.monotonic() + within_s,
        log=log,
        **options,
    )


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


SERVING = Pool(
    standings=tuple(
        Standing(candidate=Candidate(id=name, price=SMALL.price), num_running=1) for name in "abcd"
    )
)


class JudgingDispatcher(ScriptedDispatcher):
    """The same, in a pool of four with a memory of failures."""

    def __init__(self, script, num_running=1):
        """Start without a failure."""
        super().__init__(script)
        self.ejection, self.events, self.busy = Ejection(), [], []
        standings = [dataclasses.replace(s, num_running=num_running) for s in SERVING.standings]
        Dispatcher.__init__(
            self,
            lambda: Pool(standings=tuple(standings)),
            lambda name, for_s: self.busy.append((name, for_s)),
            ejection=self.ejection,
            on_event=lambda event, name: self.events.append((event.value, name)),
        )

    def ejected(self):
        """Return who is ejected now."""
        return self.ejection.ejected("abcd", time.monotonic())


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
        (ActorDiedError(), CandidateDeadError),
        (RuntimeError("EngineDeadError: EngineCore encountered an issue."), CandidateDeadError),
        (CandidateFailedError("endpoint_unreachable: no connection"), CandidateDeadError),
        (RuntimeError("out of memory"), CandidateFailedError),
        (StopAsyncIteration(), CandidateFailedError),
    ],
)
def test_a_dead_engine_is_told_from_a_failure(error, kind):
    """By Ray's exception, vLLM's words or an endpoint's."""
    assert type(_failure(error)) is kind


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
