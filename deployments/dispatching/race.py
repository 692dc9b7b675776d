"""Step 6, who is asked next: failures move a request on, slowness asks another beside the first.

Knows no Serve: an attempt is any coroutine that returns an answer or raises.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Protocol

from deployments.attempts import LOSSES, AllFailedError, CandidateFailedError
from monitoring.outcome import Status
from router.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from deployments.attempts import Answer, Log

HUNG = "hung"
"""Message of the cancellation of an attempt that had half of the time and sent nothing."""


SLOW = "slow"
"""Message of the cancellation of one that had as long as a hedge waits, and was overtaken."""


class RaceEvent(StrEnum):
    """What metrics count."""

    RETRY = "retry"
    HEDGE = "hedge"
    BUDGET_SPENT = "budget_spent"
    EJECTED = "ejected"
    DECIDED_AGAIN = "decided_again"
    """All whom a request asked died under it, and it was decided once more."""


class Doubt(IntEnum):
    """Why a candidate is asked after others; the larger, the later."""

    NONE = 0
    SUSPECT = 1
    """Its last call failed, or it has not answered since its ejection. It may be asked first, so
    that its recovery is noticed; but a request that met one failure already goes to others."""

    MASKED = 2
    """It cannot serve by now."""


class AttemptFunction(Protocol):
    """Calls one candidate; ``has_other`` tells whether somebody else could answer instead."""

    def __call__(self, candidate_id: str, *, has_other: bool) -> Awaitable[Answer]:
        """Return its answer, from the first byte on."""


@dataclass(frozen=True, slots=True)
class RaceRules:
    """What all requests of a replica share."""

    take_retry: Callable[[float], bool]
    """Takes one retry out of the budget at a time; False if there is none."""

    hedge_after_s: float | None = None
    """When a candidate that is slow to begin is overtaken by the next; half of the time that the
    request has left when None."""

    on_event: Callable[[RaceEvent, str], None] = lambda _event, _candidate: None
    """Told of what happened and with which candidate."""


@dataclass(frozen=True, slots=True)
class _Running:
    """One attempt under way."""

    candidate_id: str
    started_s: float
    patience_s: float
    """Seconds after which another is asked beside it."""


class Race:
    """One request's attempts, at most two at a time.

    Args:
        ranking: Candidates, the best first.
        attempt: Calls one of them.
        rules: What all requests share.
        deadline_s: On the monotonic clock; after it nobody else is asked.
        log: Takes a note of each attempt that failed or was given up.
        doubt_of: Tells who is asked after others.
        max_attempts: How many candidates are asked; all if None.
    """

    def __init__(  # noqa: PLR0913 - all of one request
        self,
        ranking: Sequence[str],
        attempt: AttemptFunction,
        *,
        rules: RaceRules,
        deadline_s: float,
        log: Log,
        doubt_of: Callable[[str], Doubt] = lambda _: Doubt.NONE,
        max_attempts: int | None = None,
    ) -> None:
        """Ask nobody yet."""
        self._left = list(ranking)
        self._num_attempts_left = len(self._left) if max_attempts is None else max_attempts
        self._attempt = attempt
        self._rules = rules
        self._deadline_s = deadline_s
        self._log = log
        self._doubt_of = doubt_of
        self._is_first = True
        self._running: dict[asyncio.Future[Answer], _Running] = {}
        self._was_hedged = False
        self._lost: set[str] = set()
        self._hung_s = (deadline_s - time.monotonic()) / 2

    async def run(self) -> Answer:
        """Return the first answer.

        Raises:
            InvalidInputError: If a candidate says that the request itself is wrong.
            AllFailedError: If every candidate failed, or no retry was left.
        """
        answer = None
        try:
            self._start()
            while self._running:
                answer = await self._turn()
                if answer is not None:
                    return answer
        finally:
            for task, run in self._running.items():
                self._overtake(task, run, is_beaten=answer is not None)
        failures = "; ".join(f"{a.candidate_id}: {a.error}" for a in self._log.attempts)
        raise AllFailedError(f"no candidate answered ({failures})", frozenset(self._lost))

    async def _turn(self) -> Answer | None:
        """Wait until something happens; return an answer if that is what happened."""
        done, _ = await asyncio.wait(
            self._running, timeout=self._patience_s(), return_when=asyncio.FIRST_COMPLETED
        )
        for task in sorted(done, key=lambda task: self._running[task].started_s):
            run = self._running.pop(task)
            try:
                return task.result()
            except (CandidateFailedError, InvalidInputError) as error:
                self._log.add(run.candidate_id, run.started_s, str(error))
                if isinstance(error, InvalidInputError):
                    raise
                if isinstance(error, LOSSES):
                    self._lost.add(run.candidate_id)
        is_idle = not self._running
        if time.monotonic() >= self._deadline_s:
            self._left.clear()
        if self._left and (is_idle or not done):
            self._ask_another(is_beside=not is_idle)
        return None

    def _ask_another(self, *, is_beside: bool) -> None:
        """Ask the next candidate, if the budget allows it; else the request ends as it will."""
        if not self._rules.take_retry(time.monotonic()):
            self._left.clear()
            self._rules.on_event(RaceEvent.BUDGET_SPENT, "")
            return
        self._was_hedged |= is_beside
        candidate_id = self._start()
        self._rules.on_event(RaceEvent.HEDGE if is_beside else RaceEvent.RETRY, candidate_id)

    def _start(self) -> str:
        """Ask the next candidate."""
        if not self._left:
            return ""
        candidate_id = min(self._left, key=self._place)
        self._is_first = False
        self._left.remove(candidate_id)
        # Not cut before: whom it is worth asking is known only when it is their turn.
        self._num_attempts_left -= 1
        if self._num_attempts_left <= 0:
            self._left.clear()
        now_s = time.monotonic()
        patience_s = (self._deadline_s - now_s) / 2
        if self._rules.hedge_after_s is not None:
            patience_s = min(patience_s, self._rules.hedge_after_s)
        run = _Running(candidate_id, now_s, patience_s)
        has_other = bool(self._left or self._running)
        self._running[asyncio.ensure_future(self._attempt(candidate_id, has_other=has_other))] = (
            run
        )
        return candidate_id

    def _place(self, candidate_id: str) -> bool | Doubt:
        """Return what the next one is chosen by, before the ranking."""
        doubt = self._doubt_of(candidate_id)
        return doubt is Doubt.MASKED if self._is_first else doubt

    def _patience_s(self) -> float | None:
        """Return for how long to wait before another candidate is asked beside the one at work."""
        if not self._left or len(self._running) > 1 or self._was_hedged:
            return None
        (run,) = self._running.values()
        return max(0.0, run.started_s + run.patience_s - time.monotonic())

    def _overtake(self, task: asyncio.Future[Answer], run: _Running, *, is_beaten: bool) -> None:
        """Stop an attempt that another's answer, or the user's leaving, has made useless."""

        def discard(ended: asyncio.Future[Answer]) -> None:
            if not ended.cancelled() and ended.exception() is None:
                ended.result().cancel()
                ended.result().end(Status.CANCELLED)

        self._log.add(run.candidate_id, run.started_s, "given up")
        task.add_done_callback(discard)
        silent_s, hedge_after_s = time.monotonic() - run.started_s, self._rules.hedge_after_s
        is_slow = is_beaten and hedge_after_s is not None and silent_s >= hedge_after_s
        task.cancel(HUNG if silent_s >= self._hung_s else SLOW if is_slow else None)
