"""Rivals that read no features, from chance to hindsight.

Axis legend: N = queries, M = candidates.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np

from training.benchmark.rivals.rows import candidate_means

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from training.benchmark.rivals.rival import RivalRows

TIE_SHARE = 1e-6
"""Most that the oracle's cost term takes off a score: it parts ties and nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomChoice:
    """Any candidate with equal chance, the same one for the same query and seed."""

    name: str = "random"
    """How tables call it."""

    def fit(self, train: RivalRows, validation: RivalRows, *, seed: int) -> FittedRandom:  # noqa: ARG002 - nothing to learn
        """Keep the seed."""
        return FittedRandom(seed=seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedRandom:
    """A draw that depends on the seed, the query and the candidate, never on other rows."""

    seed: int

    def quality(self, rows: RivalRows) -> NDArray[np.float64]:
        """Return uniform draws in 0 to 1."""
        ids = rows.table.rows.candidate_ids
        draws = [
            [self._draw(f"{query}\0{name}") for name in ids] for query in rows.table.query_ids
        ]
        return np.array(draws, dtype=np.float64).reshape(len(rows.table), len(ids))

    def _draw(self, name: str) -> float:
        digest = blake2b(name.encode(), digest_size=8, salt=self.seed.to_bytes(8, "big"))
        return int.from_bytes(digest.digest(), "big") / 2**64


@dataclass(frozen=True, slots=True, kw_only=True)
class Cheapest:
    """Always the candidate with the least mean cost, as predicted on the training rows."""

    name: str = "cheapest"
    """How tables call it."""

    def fit(self, train: RivalRows, validation: RivalRows, *, seed: int) -> Constant:  # noqa: ARG002 - one mean decides
        """Rank candidates by mean cost, from -1 for the dearest to 0 for a free one."""
        cost_M = train.cost_usd_NM.mean(axis=0)
        return Constant(quality_M=-cost_M / max(float(cost_M.max()), np.finfo(float).tiny))


@dataclass(frozen=True, slots=True, kw_only=True)
class BestSingle:
    """Always the candidate with the best mean score on the training rows."""

    name: str = "best_single"
    """How tables call it."""

    def fit(self, train: RivalRows, validation: RivalRows, *, seed: int) -> Constant:  # noqa: ARG002 - one mean decides
        """Take the means of what was observed."""
        return Constant(quality_M=candidate_means(train.score_NM))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Constant:
    """One figure by candidate, whatever the query."""

    quality_M: NDArray[np.float64]

    def quality(self, rows: RivalRows) -> NDArray[np.float64]:
        """Repeat the figures for each row."""
        return np.tile(self.quality_M, (len(rows.score_NM), 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Oracle:
    """The best observed score of each row, the cheapest where several reach it."""

    name: str = "oracle"
    """How tables call it."""

    def fit(self, train: RivalRows, validation: RivalRows, *, seed: int) -> FittedOracle:  # noqa: ARG002 - hindsight only
        """Keep the unit of cost: the mean over all training entries."""
        return FittedOracle(cost_usd=max(float(train.cost_usd_NM.mean()), np.finfo(float).tiny))


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedOracle:
    """Hindsight: the one rival that reads the labels of the rows it judges."""

    cost_usd: float

    def quality(self, rows: RivalRows) -> NDArray[np.float64]:
        """Return the scores less a tiny, bounded term of cost; -1 where nothing was observed."""
        share_NM = rows.cost_usd_NM / (rows.cost_usd_NM + self.cost_usd)
        score_NM = np.where(np.isfinite(rows.score_NM), rows.score_NM, -1.0)
        quality_NM: NDArray[np.float64] = score_NM - TIE_SHARE * share_NM
        return quality_NM
