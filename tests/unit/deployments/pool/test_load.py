"""Calls under way are counted, and slow first tokens are noticed and forgotten."""

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.attempts import Answer, CandidateFailedError, Log
from deployments.dispatching.dispatch import Dispatcher
from deployments.pool.load import FADE_S, LoadMeter
from monitoring.outcome import Status
from router.records import Pool


@given(st.lists(st.sampled_from(["a", "b"]), max_size=40), st.integers(1, 4))
def test_a_count_is_what_began_less_what_ended(names, num_ingresses):
    """By candidate; other ingress replicas are taken to have as many."""
    meter, open_calls = LoadMeter(num_ingresses), {"a": 0, "b": 0}
    for number, name in enumerate(names):
        if number % 3 == 2 and open_calls[name]:
            meter.end(name)
            open_calls[name] -= 1
        else:
            meter.begin(name)
            open_calls[name] += 1
        assert {n: meter.num_in_flight(n) for n in open_calls} == {
            n: num_ingresses * count for n, count in open_calls.items()
        }


def test_a_stranger_has_no_load():
    """Neither calls nor slow answers."""
    assert LoadMeter().num_in_flight("a") == 0
    assert LoadMeter().slow_start_s("a", 0.0) == 0.0


def test_usual_first_tokens_are_not_slow():
    """Not the first one, nor a thousand alike."""
    meter = LoadMeter()
    for number in range(1000):
        meter.first_token("a", 0.1, float(number))
        assert meter.slow_start_s("a", float(number)) == pytest.approx(0.0, abs=1e-9)


def test_slow_first_tokens_count_at_once_and_fade():
    """Ten of 1.1 s after a hundred of 0.1 s; two thirds of it are gone after five seconds."""
    meter = LoadMeter()
    for _ in range(100):
        meter.first_token("a", 0.1, 0.0)
    for _ in range(10):
        meter.first_token("a", 1.1, 0.0)
    slow_s = meter.slow_start_s("a", 0.0)
    assert 0.7 < slow_s < 1.0
    assert meter.slow_start_s("a", FADE_S) == pytest.approx(slow_s / 2.71828, rel=1e-4)
    assert meter.slow_start_s("b", 0.0) == 0.0


def test_what_lasts_becomes_usual():
    """A model that was made slower for good is not avoided for ever."""
    meter = LoadMeter()
    meter.first_token("a", 0.1, 0.0)
    for _ in range(1000):
        meter.first_token("a", 1.1, 0.0)
    assert meter.slow_start_s("a", 0.0) < 0.001


class ScriptedDispatcher(Dispatcher):
    """Meets each candidate with an answer or an error."""

    def __init__(self, meter, script):
        """Take answers and errors by candidate."""
        super().__init__(Pool, load=meter)
        self._meter, self._script = meter, script

    async def _attempt(self, candidate_id, _body, **_):
        assert self._meter.num_in_flight(candidate_id) == 1
        if (error := self._script.get(candidate_id)) is not None:
            raise error
        await asyncio.sleep(0.05)
        return Answer(candidate_id, None, 0.0, lambda: None)


async def test_dispatch_counts_every_call_to_its_end():
    """One that failed, one that was refused, and one that answers until its end is told."""
    meter = LoadMeter()
    dispatcher = ScriptedDispatcher(meter, {"a": CandidateFailedError("away")})

    def call():
        return dispatcher.call(
            ["a", "b"],
            lambda _: {"stream": True},
            deadline_s=time.monotonic() + 5,
            log=Log(time.monotonic()),
        )

    answer = await call()
    assert (meter.num_in_flight("a"), meter.num_in_flight("b")) == (0, 1)
    answer.end(Status.TRUNCATED)
    assert meter.num_in_flight("b") == 0
    task = asyncio.create_task(call())
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert meter.num_in_flight("b") == 0
