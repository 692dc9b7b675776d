"""Dispatchers whose candidates do as a script says, and pools that change; for any test."""

import asyncio
import dataclasses
import time

from deployments.dispatching.dispatch import (
    Answer,
    Dispatcher,
)
from deployments.pool.ejection import Ejection
from router.candidate import Candidate, Price
from router.records import Pool, Standing

SMALL = Candidate(id="small", price=Price(input_usd_per_mtok=1.0, output_usd_per_mtok=1.0))
SERVING = Pool(
    standings=tuple(
        Standing(candidate=Candidate(id=name, price=SMALL.price), num_running=1) for name in "abcd"
    )
)
"""Four candidates that are available."""


async def pieces(*texts):
    """Yield what a candidate sends."""
    for text in texts:
        yield text


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


class JudgingDispatcher(ScriptedDispatcher):
    """The same, in a pool of four with a memory of failures."""

    def __init__(self, script, num_running=1, budget=None):
        """Start without a failure."""
        super().__init__(script)
        self.ejection, self.events, self.busy = Ejection(), [], []
        standings = [dataclasses.replace(s, num_running=num_running) for s in SERVING.standings]
        Dispatcher.__init__(
            self,
            lambda: Pool(standings=tuple(standings)),
            lambda name, for_s: self.busy.append((name, for_s)),
            ejection=self.ejection,
            budget=budget,
            on_event=lambda event, name: self.events.append((event.value, name)),
        )

    def ejected(self):
        """Return who is ejected now."""
        return self.ejection.ejected("abcd", time.monotonic())
