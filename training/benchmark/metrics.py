"""The figures by which MMR-Bench and VL-RouterBench compare routers.

A router gives one point of mean cost and mean quality for each cost weight. MMR-Bench (arXiv
2601.17814) judges the curve, VL-RouterBench (arXiv 2512.23562) one point of it by its average
accuracy and average cost, which are plain means over the queries, and by its Rank Score.

Axis legend: L = points of a curve, one for each cost weight; P = points of its envelope.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from scipy import integrate

from router.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

COST_WEIGHTS: tuple[float, ...] = (0.0, *(float(weight) for weight in np.logspace(-4, 4)))
"""The sweep of MMR-Bench: choose by quality alone, then by quality - weight * cost."""

RANK_BETA = 0.1
"""Weight of cost against accuracy in the Rank Score; below 1 accuracy counts more."""

CostKind = Literal["realised_usd", "predicted_usd"]
"""Costs as recorded, or as expected before anybody answered."""


class Envelope(NamedTuple):
    """The points of a curve that no cheaper point equals or beats."""

    cost_P: NDArray[np.float64]
    """Rising."""

    quality_P: NDArray[np.float64]
    """Rising."""


class CostBounds(NamedTuple):
    """Mean cost of the cheapest and of the dearest single model of a pool."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """What a policy came to at one cost weight; means over the queries."""

    cost_weight: float
    quality: float
    """Average accuracy, 0 to 1."""

    realised_usd: float
    """Average cost as recorded; what a router is judged by."""

    predicted_usd: float
    """Average cost as it was expected when the choice was made."""

    def rank_score(self, bounds: CostBounds, kind: CostKind = "realised_usd") -> float:
        """Return the Rank Score with one kind of cost; see `rank_score`."""
        return rank_score(self.quality, getattr(self, kind), bounds)


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveFigures:
    """What the two benchmarks say of one curve with one kind of cost."""

    nauc: float
    peak_quality: float
    quality_neutral_cost: float
    rank_score: float
    """Of the chosen point."""

    @classmethod
    def of(
        cls,
        points: Sequence[CurvePoint],
        chosen: CurvePoint,
        best_single: CurvePoint,
        bounds: CostBounds,
        kind: CostKind,
    ) -> CurveFigures:
        """Measure a curve.

        Args:
            points: One for each cost weight.
            chosen: The one whose weight was chosen, by other rows than these.
            best_single: The best single model on the same queries.
            bounds: Of the pool.
            kind: Which cost.
        """
        cost_L = [getattr(point, kind) for point in points]
        quality_L = [point.quality for point in points]
        return cls(
            nauc=normalised_auc(cost_L, quality_L),
            peak_quality=peak_quality(cost_L, quality_L),
            quality_neutral_cost=quality_neutral_cost(
                cost_L,
                quality_L,
                best_quality=best_single.quality,
                best_cost=getattr(best_single, kind),
            ),
            rank_score=chosen.rank_score(bounds, kind),
        )


def envelope(cost_L: ArrayLike, quality_L: ArrayLike) -> Envelope:
    """Return the cost-quality envelope of a curve (MMR-Bench).

    Points are taken by rising cost, of equal cost the best first; a point stays if its quality is
    above that of every point before it.

    Raises:
        InvalidInputError: If there is no point, or one that is not finite or costs less than 0.
    """
    cost = np.asarray(cost_L, dtype=np.float64)
    quality = np.asarray(quality_L, dtype=np.float64)
    if cost.shape != quality.shape or cost.ndim != 1 or len(cost) == 0:
        raise InvalidInputError(
            f"a curve needs as many costs as qualities and at least one, got shapes {cost.shape} "
            f"and {quality.shape}",
            "cost_L",
        )
    if not (np.isfinite(cost) & np.isfinite(quality) & (cost >= 0)).all():
        raise InvalidInputError(
            "costs and qualities must be finite and costs 0 or more; fill unknown costs first",
            "cost_L",
        )
    order = np.lexsort((-quality, cost))
    cost, quality = cost[order], quality[order]
    before = np.maximum.accumulate(np.concatenate([[-np.inf], quality[:-1]]))
    stays = quality > before
    return Envelope(cost[stays], quality[stays])


def normalised_auc(cost_L: ArrayLike, quality_L: ArrayLike) -> float:
    """Return nAUC = 1/(c_max - c_min) ∫ q(c) dc over the envelope, by trapezoids (MMR-Bench).

    The range is the envelope's own, so a curve that never becomes cheap is not charged for it:
    read it beside the costs. NaN for an envelope of one point, which has no range.
    """
    cost_P, quality_P = envelope(cost_L, quality_L)
    if len(cost_P) == 1:
        return math.nan
    return float(integrate.trapezoid(quality_P, cost_P) / (cost_P[-1] - cost_P[0]))


def peak_quality(cost_L: ArrayLike, quality_L: ArrayLike) -> float:
    """Return Ps = max q over the envelope (MMR-Bench)."""
    return float(envelope(cost_L, quality_L).quality_P[-1])


def quality_neutral_cost(
    cost_L: ArrayLike, quality_L: ArrayLike, *, best_quality: float, best_cost: float
) -> float:
    """Return QNC = min {c : q(c) >= q*} / c* over the envelope's points (MMR-Bench).

    Args:
        cost_L: Mean cost of each point, in the unit of ``best_cost``.
        quality_L: Mean quality of each point.
        best_quality: q*, of the best single model on the same queries.
        best_cost: c*, its mean cost.

    Returns:
        Below 1 where its quality is had for less; inf where it is never had or c* is 0.
    """
    cost_P, quality_P = envelope(cost_L, quality_L)
    reaching = np.flatnonzero(quality_P >= best_quality)
    if len(reaching) == 0 or best_cost <= 0:
        return math.inf
    return float(cost_P[reaching[0]] / best_cost)


def log_cheapness(cost: float, bounds: CostBounds) -> float:
    """Return C = (log2 c_max - log2 c) / (log2 c_max - log2 c_min), c clipped to the bounds.

    VL-RouterBench, whose bounds are the least and the greatest of the models' mean costs. 1 at
    the cheapest model's cost and 0 at the dearest's; NaN where the bounds leave no range or the
    cheapest model is free.
    """
    if not 0 < bounds.low < bounds.high:
        return math.nan
    cost = min(max(cost, bounds.low), bounds.high)
    return math.log2(bounds.high / cost) / math.log2(bounds.high / bounds.low)


def rank_score(
    quality: float, cost: float, bounds: CostBounds, *, beta: float = RANK_BETA
) -> float:
    """Return S = (1 + β) A C / (β A + C), a weighted harmonic mean (VL-RouterBench).

    Args:
        quality: A, the average accuracy, 0 to 1.
        cost: Average cost, in the unit of the bounds; C is its `log_cheapness`.
        bounds: Of the pool.
        beta: β.

    Returns:
        Between A and C; 0 where either is 0; NaN where C is.
    """
    cheapness = log_cheapness(cost, bounds)
    if quality == 0 or cheapness == 0:
        return 0.0
    return (1 + beta) * quality * cheapness / (beta * quality + cheapness)


def share_of_gap(router: float, best_single: float, oracle: float) -> float:
    """Return (q_router - q_single) / (q_oracle - q_single): 0 for no gain, 1 for all there is.

    Below 0 where the router is worse than the best single model; NaN where there is no gap.
    """
    gap = oracle - best_single
    return (router - best_single) / gap if gap > 0 else math.nan
