"""Step 4, load: what one ingress replica has under way with each candidate. Pure.

These counts are of this instant, where a poll of Serve would be a second old and tells no queues.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

FADE_S = 5.0
"""Time in which the news of slow first tokens loses two thirds of its weight."""

LATEST_WEIGHT = 0.2
"""Of a first token in the latest mean: about the last five count."""

USUAL_WEIGHT = 0.01
"""Of a first token in the usual mean: about the last hundred count."""


@dataclass(slots=True, eq=False)
class _Load:
    """What is remembered of one candidate."""

    num_in_flight: int = 0
    usual_s: float | None = None
    latest_s: float = 0.0
    seen_s: float = 0.0
    """When the latest first token came."""


class LoadMeter:
    """Counts calls under way, and measures how late first tokens come.

    Times are those of one monotonic clock.

    Args:
        num_ingresses: Ingress replicas, among which the proxy spreads requests evenly: each takes
            the others to have as much under way as itself.
    """

    def __init__(self, num_ingresses: int = 1) -> None:
        """Know of no call."""
        self._num_ingresses = num_ingresses
        self._loads: dict[str, _Load] = {}

    def begin(self, candidate_id: str) -> None:
        """Count a call; it must be ended."""
        self._loads.setdefault(candidate_id, _Load()).num_in_flight += 1

    def end(self, candidate_id: str) -> None:
        """Count the end of a call."""
        self._loads[candidate_id].num_in_flight -= 1

    def first_token(self, candidate_id: str, after_s: float, now_s: float) -> None:
        """Note when a streamed answer began, in seconds after its call."""
        load = self._loads.setdefault(candidate_id, _Load())
        if load.usual_s is None:
            load.usual_s = load.latest_s = after_s
        load.latest_s += LATEST_WEIGHT * (after_s - load.latest_s)
        load.usual_s += USUAL_WEIGHT * (after_s - load.usual_s)
        load.seen_s = now_s

    def num_in_flight(self, candidate_id: str) -> int:
        """Return the estimated calls of all ingress replicas."""
        load = self._loads.get(candidate_id)
        return 0 if load is None else load.num_in_flight * self._num_ingresses

    def slow_start_s(self, candidate_id: str, now_s: float) -> float:
        """Return how much later than usual first tokens come by now; 0 or more.

        It fades while none comes, so that a candidate that is avoided for it is tried again.
        """
        load = self._loads.get(candidate_id)
        if load is None or load.usual_s is None:
            return 0.0
        excess_s = max(0.0, load.latest_s - load.usual_s)
        return excess_s * math.exp(-max(0.0, now_s - load.seen_s) / FADE_S)
