"""Step 4, seen by dispatch: who failed so much that nobody should ask it for a while. Pure.

    serving ──failures──> ejected ──time is up──> on trial ──one answer──> serving
                             ^                        │
                             └──twice as long─────────┘ one failure, an answer cut short too

Outlier ejection as in Envoy, passive: no request is made for the sake of asking. At most a share
of the pool is ejected, and if nearly all is bad nobody is: the fault is then likely elsewhere.
Dispatch asks those that do not fail first in any case.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

MAX_CALLS = 200
"""Recent calls that are remembered of each candidate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EjectionRules:
    """When a candidate is ejected, and for how long."""

    num_in_a_row: int = 3
    """Failures without an answer between them that eject."""

    failure_share: float = 0.5
    """Share of the recent calls which, when they fail, ejects; above 0."""

    min_calls: int = 10
    """Least number of recent calls of which a share is taken."""

    window_s: float = 30.0
    """How long a call is recent."""

    base_s: float = 5.0
    """How long the first ejection lasts; each one doubles it."""

    max_s: float = 120.0
    """Longest ejection; after as long without one, the first is the next."""

    max_share: float = 0.5
    """Most of the pool that is ejected at once."""

    panic_share: float = 0.7
    """Bad share of the pool above which no ejection counts."""


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One call of a candidate, from `Ejection.begin` to its end; equal to itself alone."""

    candidate_id: str


@dataclass(slots=True, eq=False)
class _Health:
    """What is remembered of one candidate."""

    calls: deque[tuple[float, bool]] = field(default_factory=lambda: deque(maxlen=MAX_CALLS))
    """When each recent call ended, and whether it failed."""

    num_in_a_row: int = 0
    num_ejections: int = 0
    """In close succession; what the next ejection's length depends on."""

    ejected_until_s: float | None = None
    """None while it serves; in the past while it is on trial."""

    ended_s: float | None = None
    """When the last ejection was over, or will be."""

    trial: Call | None = None
    """The one call that is let through."""

    tried: Call | None = None
    """The last trial that was answered, until its end: the answer may still break off."""


class Ejection:
    """The health of all candidates, as the calls of one ingress replica tell it.

    Times are those of one monotonic clock.
    """

    def __init__(self, rules: EjectionRules | None = None) -> None:
        """Know of no failure."""
        self._rules = rules or EjectionRules()
        self._health: dict[str, _Health] = {}

    def begin(self, candidate_id: str, now_s: float) -> Call:
        """Open a call; the first one after an ejection is the trial.

        Until the trial's end `ejected` goes on naming the candidate, so that it stays the only
        call. Every call must be closed, by `succeed`, `fail` or `drop`.
        """
        health = self._health.setdefault(candidate_id, _Health())
        call = Call(candidate_id)
        is_due = health.ejected_until_s is not None and now_s >= health.ejected_until_s
        if is_due and health.trial is None:
            health.trial = call
        return call

    def answer(self, call: Call) -> None:
        """Note a first byte: it ends the trial, however long the rest takes."""
        health = self._health[call.candidate_id]
        if health.trial is call:
            health.trial, health.tried, health.ejected_until_s = None, call, None
            health.num_in_a_row = 0
            health.calls.clear()

    def succeed(self, call: Call, now_s: float) -> None:
        """Close a call that was answered to its end."""
        self.answer(call)
        health = self._health[call.candidate_id]
        self.drop(call)
        if health.ejected_until_s is None:
            health.num_in_a_row = 0
            self._note(health, now_s, failed=False)

    def fail(self, call: Call, now_s: float, *, is_fatal: bool = False) -> bool:
        """Close a call that failed.

        Args:
            call: What `begin` returned.
            now_s: When it failed.
            is_fatal: Whether the failure tells that the next call will fail too.

        Returns:
            Whether the candidate is ejected by this failure.
        """
        health = self._health[call.candidate_id]
        was_trial, was_tried = health.trial is call, health.tried is call
        self.drop(call)
        # What was called before the ejection and fails after it tells nothing new.
        if health.ejected_until_s is not None and not was_trial:
            return False
        health.num_in_a_row += 1
        self._note(health, now_s, failed=True)
        is_bad = health.num_in_a_row >= self._rules.num_in_a_row or self._fails_often(health)
        if was_trial or was_tried or is_fatal or is_bad:
            self._eject(health, now_s)
            return True
        return False

    def drop(self, call: Call) -> None:
        """Close a call of which nothing was learned, such as one that its user gave up."""
        health = self._health[call.candidate_id]
        if health.trial is call:
            health.trial = None
        if health.tried is call:
            health.tried = None

    def is_bad(self, candidate_id: str, now_s: float) -> bool:
        """Return whether a candidate is ejected, or on a trial that is under way."""
        health = self._health.get(candidate_id)
        if health is None or health.ejected_until_s is None:
            return False
        return now_s < health.ejected_until_s or health.trial is not None

    def is_suspect(self, candidate_id: str) -> bool:
        """Return whether a candidate's last call failed, or it has not answered since ejected."""
        health = self._health.get(candidate_id)
        if health is None:
            return False
        return health.num_in_a_row > 0 or health.ejected_until_s is not None

    def ejected(self, serving: Collection[str], now_s: float) -> frozenset[str]:
        """Return whom to mask.

        Args:
            serving: The candidates whose replicas could serve.
            now_s: The time.

        Returns:
            Some of ``serving``: at most ``max_share`` of them, those that were ejected most often
            first; nobody in a panic.
        """
        bad = [name for name in serving if self.is_bad(name, now_s)]
        if len(bad) > self._rules.panic_share * len(serving):
            return frozenset()
        most = int(self._rules.max_share * len(serving))
        bad.sort(key=lambda name: -self._health[name].num_ejections)
        return frozenset(bad[:most])

    def is_panic(self, serving: Collection[str], now_s: float) -> bool:
        """Return whether ejections are ignored because too many candidates are bad."""
        num_bad = sum(self.is_bad(name, now_s) for name in serving)
        return num_bad > self._rules.panic_share * len(serving)

    def _note(self, health: _Health, now_s: float, *, failed: bool) -> None:
        """Remember the end of a call, and forget what is not recent."""
        health.calls.append((now_s, failed))
        while health.calls[0][0] < now_s - self._rules.window_s:
            health.calls.popleft()

    def _fails_often(self, health: _Health) -> bool:
        num_failed = sum(failed for _, failed in health.calls)
        num_calls = len(health.calls)
        return (
            num_calls >= self._rules.min_calls
            and num_failed >= self._rules.failure_share * num_calls
        )

    def _eject(self, health: _Health, now_s: float) -> None:
        """Begin an ejection, twice as long as the last one if that is not long ago."""
        rules = self._rules
        if health.ended_s is not None and now_s - health.ended_s > rules.max_s:
            health.num_ejections = 0
        health.num_ejections += 1
        # The exponent is bounded because 2.0**1024 overflows.
        lasts_s = rules.base_s * 2.0 ** min(health.num_ejections - 1, 64)
        health.ejected_until_s = health.ended_s = now_s + min(lasts_s, rules.max_s)
        health.num_in_a_row = 0
        health.calls.clear()
