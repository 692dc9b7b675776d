"""Compare ways of choosing a candidate on questions that every candidate answered. Pure.

Axis legend: N = questions, M = candidates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from infra.asking import Asked


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRow:
    """What one way of choosing came to."""

    name: str
    quality: float
    """Share of right answers."""

    mean_cost_usd: float
    latency_p50_s: float
    latency_p99_s: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Comparison:
    """Answers of every candidate and of the router to the same questions."""

    candidate_ids: tuple[str, ...]
    score_NM: NDArray[np.float64]
    cost_usd_NM: NDArray[np.float64]
    latency_s_NM: NDArray[np.float64]
    auto: Sequence[Asked]

    @classmethod
    def of(cls, auto: Sequence[Asked], alone: dict[str, Sequence[Asked]]) -> Comparison:
        """Lay the answers out; all lists are in the order of the questions."""
        names = tuple(alone)

        def table(field: str) -> NDArray[np.float64]:
            return np.array([[getattr(a, field) for a in alone[name]] for name in names]).T

        return cls(
            candidate_ids=names,
            score_NM=table("score"),
            cost_usd_NM=table("cost_usd"),
            latency_s_NM=table("latency_s"),
            auto=auto,
        )

    @property
    def auto_score_N(self) -> NDArray[np.float64]:  # noqa: N802 - axis suffix
        """Scores of the routed answers."""
        return np.array([asked.score for asked in self.auto])

    @property
    def best_single(self) -> int:
        """Index of the candidate that is right most often."""
        return int(self.score_NM.mean(axis=0).argmax())

    def rows(self) -> list[PolicyRow]:
        """Return the router, every candidate alone, random choice and the oracle."""
        auto = _row(
            "auto",
            self.auto_score_N,
            np.array([a.cost_usd for a in self.auto]),
            np.array([a.latency_s for a in self.auto]),
        )
        alone = [
            _row(name, self.score_NM[:, m], self.cost_usd_NM[:, m], self.latency_s_NM[:, m])
            for m, name in enumerate(self.candidate_ids)
        ]
        random = _row("random", self.score_NM, self.cost_usd_NM, self.latency_s_NM)
        return [auto, *alone, random, self.oracle()]

    def oracle(self) -> PolicyRow:
        """Return the choice of one who knows all answers: the cheapest among the right ones."""
        dearest_usd = self.cost_usd_NM.max() or 1.0  # all may be free
        order_NM = self.score_NM - 1e-3 * self.cost_usd_NM / dearest_usd
        pick = order_NM.argmax(axis=1)
        n = np.arange(len(pick))
        return _row(
            "oracle",
            self.score_NM[n, pick],
            self.cost_usd_NM[n, pick],
            self.latency_s_NM[n, pick],
        )

    def gain_interval(self) -> tuple[float, float, float]:
        """Return the router's gain over the best single candidate, with its 95 % interval.

        Paired bootstrap over questions, 5,000 resamples, percentile interval.
        """
        gain_N = self.auto_score_N - self.score_NM[:, self.best_single]
        found = stats.bootstrap(
            (gain_N,), np.mean, n_resamples=5000, method="percentile", rng=np.random.default_rng(0)
        ).confidence_interval
        return float(gain_N.mean()), float(found.low), float(found.high)


def _row(
    name: str,
    score: NDArray[np.float64],
    cost_usd: NDArray[np.float64],
    latency_s: NDArray[np.float64],
) -> PolicyRow:
    return PolicyRow(
        name=name,
        quality=float(score.mean()),
        mean_cost_usd=float(cost_usd.mean()),
        latency_p50_s=float(np.quantile(latency_s, 0.5)),
        latency_p99_s=float(np.quantile(latency_s, 0.99)),
    )
