"""Step 8, retrain: from what each row contributes to an estimate, its 95 % interval.

Inverse propensities make few rows count for much, and the variance of a few thousand rows is then
known no better than that of a few dozen. The interval takes its quantile from Student's t with as
many degrees of freedom as the variance estimate deserves. A correction for skewness (Hall 1992)
made intervals of simulated logs wider, and put the low end, on which promotion hangs, too high
more often.

Axis legend: N = rows, C = clusters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from router.certificate import Estimate
from router.errors import InvalidInputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

CONFIDENCE = 0.95
MIN_FREEDOM = 2.0
"""Below it a t quantile means nothing; 2 makes the interval more than twice as wide."""


def interval(
    value: float,
    influence_N: NDArray[np.float64],
    cluster_N: NDArray[np.int64],
    weight_N: NDArray[np.float64],
    *,
    max_bias: float = 0.0,
) -> Estimate:
    """Return an estimate with its interval.

    With S_c the sum of influences in cluster c of C, the ends are value ± t se, where se² is
    C/(C-1) Σ S_c² (cluster-robust; Liang and Zeger 1986). The degrees of freedom of t are
    2C / (κ - 1), from the kurtosis κ of the S_c, at most C - 1: what a variance of C draws of that
    distribution is worth in draws of a normal one (by its two moments, as Satterthwaite 1946).

    Args:
        value: The estimate.
        influence_N: What each row moves it by, summing to about 0; already divided by the number
            of rows.
        cluster_N: Number of each row's cluster.
        weight_N: Weight of each row, for the effective number of rows; 0 or more.
        max_bias: Largest bias in either direction, by which the interval is widened.

    Raises:
        InvalidInputError: If there are fewer than two clusters.
    """
    _, place_N = np.unique(cluster_N, return_inverse=True)
    sum_C = np.bincount(place_N, weights=influence_N).astype(np.float64)
    num_clusters = len(sum_C)
    if num_clusters < 2:  # noqa: PLR2004 - one cluster shows no spread
        raise InvalidInputError(
            f"an interval needs two clusters of rows or more, got {num_clusters}; log more"
            " queries",
            "cluster_N",
        )
    reach = _half_width(sum_C) + max_bias
    return Estimate(
        value=value,
        low=value - reach,
        high=value + reach,
        effective_rows=effective_rows(weight_N),
        num_rows=len(influence_N),
        num_clusters=num_clusters,
    )


def effective_rows(weight_N: NDArray[np.float64]) -> float:
    """Return (Σ w)² / Σ w² (Kish 1965); 0 if every weight is 0."""
    square = float(np.square(weight_N).sum())
    return float(weight_N.sum()) ** 2 / square if square > 0 else 0.0


def _half_width(sum_C: NDArray[np.float64]) -> float:
    """Return how far the interval reaches to either side."""
    num_clusters = len(sum_C)
    centred_C = sum_C - sum_C.mean()
    variance = float(np.square(centred_C).mean())
    if variance <= 1e-30:  # noqa: PLR2004 - rounding; every cluster says the same
        return 0.0
    std_error = np.sqrt(num_clusters**2 / (num_clusters - 1) * variance)
    kurtosis = float((centred_C**4).mean() / variance**2)
    freedom = min(max(2 * num_clusters / max(kurtosis - 1, 1e-9), MIN_FREEDOM), num_clusters - 1)
    return float(std_error * stats.t.ppf((1 + CONFIDENCE) / 2, freedom))
