"""Step 6, capacity wanted: which candidates should get replicas for the queries they lost. Pure.

Serve's autoscaler goes by the queries under way with a candidate. Those that the router sent
elsewhere for want of replicas it does not see. Here they are counted, and where too much was lost
by them the candidate is nudged: with one call that starts its first replica, or with as many idle
calls as the autoscaler needs to see before it starts another.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import ceil, floor
from typing import TYPE_CHECKING

from router.capacity import is_full
from router.records import Refusal

if TYPE_CHECKING:
    from collections.abc import Collection

    from router.records import Decision, Pool, Standing

HOLD_S = 75.0
"""How long idle calls last: by default the autoscaler takes the mean of 30 s and wants it high for
another 30 s, and it is told every 10 s."""

REFUSED_REGRET = 1.0
"""Regret of a query that nobody could answer: a right answer is worth 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WakeRules:
    """When a candidate is nudged."""

    regret: float | None = 1.0
    """Regret within the window that nudges; never if None."""

    window_s: float = 60.0
    """How long a lost query counts."""

    pause_s: float = 30.0
    """Least time between two nudges of one candidate."""


@dataclass(frozen=True, slots=True)
class Nudge:
    """Calls that raise the number of replicas that a candidate is given."""

    candidate_id: str
    num_calls: int
    for_s: float
    """How long each lasts once a replica has taken it."""


@dataclass(slots=True, eq=False)
class Lost:
    """What one candidate lost for want of replicas."""

    recent: deque[tuple[float, float]] = field(default_factory=deque)
    """When, and with what regret."""

    recent_regret: float = 0.0
    num_queries: int = 0
    utility: float = 0.0
    quality: float = 0.0
    usd: float = 0.0
    num_nudges: int = 0
    next_s: float = 0.0
    """Before then it is not nudged again."""

    num_running: int | None = None
    """Replicas that ran at the last look."""


class Wake:
    """Counts the regret of missing capacity, for one ingress replica, and says whom to nudge.

    Times are those of one monotonic clock.

    Args:
        rules: When.
        num_ingresses: Ingress replicas, each of which makes its part of the idle calls.
    """

    def __init__(self, rules: WakeRules | None = None, *, num_ingresses: int = 1) -> None:
        """Know of no loss."""
        self._rules = rules or WakeRules()
        self._num_ingresses = num_ingresses
        self._lost: dict[str, Lost] = {}

    def note(self, decision: Decision, now_s: float) -> Lost:
        """Count what a decision lost, and return what its ``wanted`` lost in all."""
        lost = self._note(decision.wanted, decision.capacity_regret, now_s)
        lost.quality += decision.capacity_regret_quality
        lost.usd += decision.capacity_regret_usd
        return lost

    def note_refused(self, pool: Pool, cold: Collection[str], now_s: float) -> float | None:
        """Count a query that nobody could answer, for whoever starts soonest.

        Args:
            pool: The pool as it was.
            cold: Who could have answered with a replica, and is scaled to zero.
            now_s: The time.

        Returns:
            Seconds that the start takes; None where nobody will start.
        """
        starts = [
            (standing.capacity.start_s, standing.candidate.id)
            for standing in pool.standings
            if standing.candidate.id in cold and standing.capacity.start_s is not None
        ]
        if not starts:
            return None
        start_s, name = min(starts)
        self._note(name, REFUSED_REGRET, now_s)
        return start_s

    def due(self, pool: Pool, now_s: float) -> list[Nudge]:
        """Return whom to nudge now; the caller does it."""
        nudges = []
        for name, lost in self._lost.items():
            self._forget(lost, now_s)
            bound, standing = self._rules.regret, pool.standing(name)
            if bound is None or standing is None:
                continue
            _note_running(lost, standing.num_running)
            if now_s < lost.next_s:
                continue
            if not lost.recent or lost.recent_regret < bound:
                continue
            nudge = self._nudge(standing)
            if nudge is not None:
                lost.next_s = now_s + max(self._rules.pause_s, nudge.for_s)
                lost.num_nudges += 1
                nudges.append(nudge)
        return nudges

    def status(self) -> dict[str, dict[str, float]]:
        """Return what each candidate lost since the start, and how often it was nudged."""
        return {
            name: {
                "queries": lost.num_queries,
                "regret": round(lost.utility, 4),
                "regret_quality": round(lost.quality, 4),
                "regret_usd": lost.usd,
                "nudges": lost.num_nudges,
            }
            for name, lost in self._lost.items()
        }

    def _note(self, name: str, regret: float, now_s: float) -> Lost:
        lost = self._lost.setdefault(name, Lost())
        lost.recent.append((now_s, regret))
        lost.recent_regret += regret
        lost.num_queries += 1
        lost.utility += regret
        self._forget(lost, now_s)
        return lost

    def _forget(self, lost: Lost, now_s: float) -> None:
        while lost.recent and lost.recent[0][0] < now_s - self._rules.window_s:
            lost.recent_regret -= lost.recent.popleft()[1]

    def _nudge(self, standing: Standing) -> Nudge | None:
        """Return the calls that a candidate needs; None where none would help."""
        name, num_calls = standing.candidate.id, idle_calls(standing)
        if not standing.num_running:
            return Nudge(name, 1, 0.0) if num_calls else None
        return Nudge(name, ceil(num_calls / self._num_ingresses), HOLD_S) if num_calls else None


def _note_running(lost: Lost, num_running: int) -> None:
    """Forget what was lost for want of a replica that runs by now.

    Else a replica that was killed and came back is followed by another: what its queries lost
    meanwhile still counts, for a minute.
    """
    if lost.num_running is not None and num_running > lost.num_running:
        lost.recent.clear()
        lost.recent_regret = 0.0
    lost.num_running = num_running


def idle_calls(standing: Standing) -> int:
    """Return how many more calls under way make Serve's autoscaler start one replica more.

    It wants ``ceil(calls / target)`` replicas. 0 where it may start none, where one is starting,
    where it sees calls enough already, or where more replicas would not help: an endpoint that
    refuses by its own limits.
    """
    capacity, num_running = standing.capacity, standing.num_running
    if capacity.max_replicas is None or num_running >= capacity.max_replicas:
        return 0
    if not num_running:
        return int(standing.refusal is Refusal.COLD)
    if standing.refusal is not None and not is_full(standing):
        return 0
    num_missing = floor(capacity.target_ongoing * num_running) + 1 - capacity.num_in_flight
    if capacity.max_ongoing is not None:
        # Half of the room is left to queries.
        room = capacity.max_ongoing * num_running - capacity.num_in_flight
        num_missing = min(num_missing, room // 2)
    return max(0, num_missing)
