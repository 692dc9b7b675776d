"""Step 4, seen by a request that lost all whom it asked: who may answer it yet. Pure.

A candidate whose only replica died is still told as running until Serve's health check finds it
out; then it is told as starting, and can be waited for.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from router.records import Refusal

if TYPE_CHECKING:
    from collections.abc import Collection

    from router.records import Pool, Standing


@dataclass(slots=True)
class Losses:
    """What one request's attempts tell that the pool does not tell yet."""

    failed: frozenset[str]
    """Candidates that failed it in another way; they are not asked again."""

    unseen: set[str] = field(default_factory=set)
    """Candidates whose replica died, as long as the pool does not show it."""

    @classmethod
    def of(cls, tried: Collection[str], lost: Collection[str]) -> Losses:
        """Return the losses of a request that tried some candidates and lost some of them."""
        return cls(frozenset(tried) - frozenset(lost), set(lost))

    def look(self, pool: Pool) -> Pool:
        """Return the pool without those who cannot answer; note what it shows of the lost."""
        self.unseen &= {s.candidate.id for s in pool.standings}
        return dataclasses.replace(pool, standings=tuple(self._seen(s) for s in pool.standings))

    def _seen(self, standing: Standing) -> Standing:
        name = standing.candidate.id
        if name in self.failed:
            return _without(standing)
        if name in self.unseen:
            if standing.num_running == 1 or standing.refusal is Refusal.NO_REPLICA:
                return _without(standing)
            self.unseen.discard(name)  # it starts anew, or another replica of it runs
        return standing


def _without(standing: Standing) -> Standing:
    return dataclasses.replace(standing, refusal=standing.refusal or Refusal.NO_REPLICA)
