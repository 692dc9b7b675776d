"""Proof that figures mean what they say: calibration of quality, and the floor's coverage.

Axis legend: N = queries, M = candidates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from router.profile import PoolEconomics

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from router.artifact import RouterArtifact
    from training.benchmark.table import OutcomeTable

NUM_BINS = 10
NUM_DRAWS = 400
MIN_OUTCOMES = 300
MANY_OUTCOMES = 1000
"""Chance alone gives a perfect forecast an error of up to sqrt(0.25 * 10 / n) * 0.8: 0.07 for 300
outcomes, 0.04 for 1,000."""

FLOORS = ((0.0, 0.9), (0.0, 0.95), (0.5, 0.9), (0.5, 0.95))
"""Drops and confidences that are asked of the floor."""


class FloorCheck(NamedTuple):
    """One floor on test rows."""

    max_quality_drop: float
    confidence: float
    slack: float
    kept: float
    """Share of queries that lost no more than the drop against the best prediction."""

    saved: float
    """Share of the best prediction's cost that was saved."""


def calibration_error(predicted_N: NDArray[np.float64], score_N: NDArray[np.float64]) -> float:
    """Return the expected calibration error over ten bins of equal width (Naeini 2015)."""
    bin_N = np.minimum((predicted_N * NUM_BINS).astype(int), NUM_BINS - 1)
    gap_B = np.bincount(bin_N, predicted_N - score_N, NUM_BINS)
    return float(np.abs(gap_B).sum() / max(len(score_N), 1))


def chance_error(
    predicted_N: NDArray[np.float64],
    score_N: NDArray[np.float64],
    group_N: NDArray[np.int64],
    rng: np.random.Generator,
) -> float:
    """Return the error that a perfectly calibrated forecast stays under in 95 % of draws.

    Deviations from each bin's mean get a random sign by group (wild cluster bootstrap, Cameron
    2008), so that copies of one question count as what they are.
    """
    bin_N = np.minimum((predicted_N * NUM_BINS).astype(int), NUM_BINS - 1)
    apart_N = predicted_N - score_N
    mean_B = np.bincount(bin_N, apart_N, NUM_BINS) / np.maximum(
        np.bincount(bin_N, minlength=NUM_BINS), 1
    )
    _, cluster_N = np.unique(group_N, return_inverse=True)
    shape = (int(cluster_N.max()) + 1, NUM_BINS)
    cell_N = cluster_N * NUM_BINS + bin_N
    sums_CB = np.bincount(cell_N, apart_N - mean_B[bin_N], shape[0] * NUM_BINS).reshape(shape)
    count_B = (np.bincount(cell_N, minlength=sums_CB.size).reshape(shape) > 0).sum(axis=0)
    # The mean that was taken off is the groups' own, which makes them look closer than they are.
    sums_CB *= np.sqrt(count_B / np.maximum(count_B - 1, 1))
    signs_SC = rng.choice([-1.0, 1.0], (NUM_DRAWS, shape[0]))
    drawn_S = np.abs(signs_SC @ sums_CB).sum(axis=1)
    return float(np.percentile(drawn_S, 95) / len(apart_N))


def check_floors(artifact: RouterArtifact, test: OutcomeTable) -> list[FloorCheck]:
    """Take the cheapest candidate within each floor's slack and count what it lost."""
    rows = test.rows
    quality_NM = artifact.scorer().quality(
        rows.features_NF, candidates=test.candidates, profiles=artifact.profiles
    )
    quality_NM = np.where(rows.available_NM, quality_NM, -np.inf)
    cost_NM = _cost(artifact, test)
    n, best_N = np.arange(len(rows)), quality_NM.argmax(axis=1)
    checks = []
    for drop, confidence in FLOORS:
        slack = artifact.floor.slack(drop, confidence)
        within_NM = quality_NM >= quality_NM.max(axis=1, keepdims=True) - slack
        taken_N = np.where(within_NM, cost_NM, np.inf).argmin(axis=1)
        lost_N = rows.score_NM[n, best_N] - rows.score_NM[n, taken_N]
        spent, most = cost_NM[n, taken_N].sum(), cost_NM[n, best_N].sum()
        saved = 1.0 - spent / most if most > 0 else 0.0
        kept = float((lost_N <= drop + 1e-9).mean())
        checks.append(FloorCheck(drop, confidence, slack, kept, float(saved)))
    return checks


def _cost(artifact: RouterArtifact, test: OutcomeTable) -> NDArray[np.float64]:
    profiles = [artifact.profiles[candidate.id] for candidate in test.candidates]
    pool = PoolEconomics.of(profiles, [candidate.price for candidate in test.candidates])
    membership_NK = artifact.kinds.assign(artifact.projection.transform(test.rows.features_NF))
    return pool.cost_usd(test.rows.num_chars_N, test.rows.num_images_N, membership_NK)
