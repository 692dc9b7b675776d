"""Step 4, starts: how long a candidate's replicas take to start, as seen. Pure."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from router.records import Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from router.records import Pool, Standing

LATEST_WEIGHT = 0.5
"""Of the latest start in the mean: an image or a cache that is there by then makes it shorter."""


class StartTimes:
    """The starts that one watcher saw. Times are those of one monotonic clock."""

    def __init__(self) -> None:
        """Know of no start."""
        self._mean_s: dict[str, float] = {}
        self._begun_s: dict[str, dict[str, float]] = {}
        self._has_looked = False

    def look(self, states: Mapping[str, Mapping[str, str]], now_s: float) -> None:
        """Take the states of all replicas, by candidate and replica.

        A start that was under way at the first look is not counted: nobody knows when it began.
        """
        for name, replicas in states.items():
            before = self._begun_s.get(name, {})
            for replica, state in replicas.items():
                if state == "RUNNING" and replica in before:
                    self._note(name, now_s - before[replica])
            if self._has_looked:
                self._begun_s[name] = {
                    replica: before.get(replica, now_s)
                    for replica, state in replicas.items()
                    if state == "STARTING"
                }
        for name in set(self._begun_s) - set(states):
            del self._begun_s[name]
        self._has_looked = True

    def expected(self, pool: Pool, now_s: float) -> Pool:
        """Return the pool with what starts are expected to take, less what has passed of them."""
        standings = tuple(self._timed(standing, now_s) for standing in pool.standings)
        return dataclasses.replace(pool, standings=standings)

    def _note(self, name: str, took_s: float) -> None:
        mean_s = self._mean_s.get(name, took_s)
        self._mean_s[name] = mean_s + LATEST_WEIGHT * (took_s - mean_s)

    def _timed(self, standing: Standing, now_s: float) -> Standing:
        name, start_s = standing.candidate.id, standing.capacity.start_s
        if start_s is None:
            return standing
        start_s = self._mean_s.get(name, start_s)
        if standing.refusal is Refusal.STARTING and (begun_s := self._begun_s.get(name)):
            start_s = max(0.0, start_s - (now_s - min(begun_s.values())))
        capacity = standing.capacity._replace(start_s=start_s)
        return dataclasses.replace(standing, capacity=capacity)
