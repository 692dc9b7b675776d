"""Step 7, drift: whether today's queries or scores are still those of the reference.

`population_stability_index` says how much; `DriftTest` says whether, at any time it is read. The
test is a conformal test martingale (Vovk 2021, "Testing randomness online", Statistical Science
36): the rank of each new value among all before it is uniform as long as they are exchangeable,
and the test bets that it is not, by the past frequencies of ten classes of ranks with a Dirichlet
prior (Lindon and Malek 2022, arXiv 2011.03567). The reference needs no model and no estimate.

Drift alone is no reason to roll back: the version before would see the same queries. It says that
a retrain is due, and that the floor's guarantee, which is for the same stream, is in doubt.

Axis legend: N = values, K = classes.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from typing import TYPE_CHECKING

import numpy as np

from router.errors import InvalidInputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

NUM_CLASSES = 10
MIN_REFERENCE = 100
FIRST_RESTART = 64
"""Values until the second bet begins; each later one begins after twice as many."""

NUM_BETS = 12
"""The last begins after 65,536 values; a bet that began long before a change sees it late."""


def population_stability_index(
    reference: ArrayLike, current: ArrayLike, *, num_classes: int = NUM_CLASSES
) -> float:
    """Return sum over classes of (q - p) * ln(q / p), p and q the shares of the two samples.

    Classes are the reference's quantiles. Half a count is added to each, so that an empty one
    does not make it infinite. By custom 0.1 is small and above 0.25 is large; with N values in
    each sample it is about 2 * (num_classes - 1) / N without any drift.

    Raises:
        InvalidInputError: If a sample is empty or not finite.
    """
    reference_N, current_N = _finite(reference, "reference"), _finite(current, "current")
    if not len(reference_N) or not len(current_N):
        raise InvalidInputError("both samples must hold a value", "current")
    edges = np.quantile(reference_N, np.linspace(0, 1, num_classes + 1)[1:-1])
    p_K, q_K = (_shares(sample_N, edges, num_classes) for sample_N in (reference_N, current_N))
    return float((q_K - p_K) @ np.log(q_K / p_K))


def _shares(
    sample_N: NDArray[np.float64], edges: NDArray[np.floating], num_classes: int
) -> NDArray[np.float64]:
    counts_K = np.bincount(np.searchsorted(edges, sample_N, "right"), minlength=num_classes) + 0.5
    return np.asarray(counts_K / counts_K.sum())


class DriftTest:
    """Reads one figure of each query, such as the predicted quality of its best candidate.

    Args:
        reference: Figures of the time that is to be compared with.
        alpha: Probability of ever finding a drift where there is none; above 0, below 1.
        generator: Breaks ties.

    Raises:
        InvalidInputError: If there are too few figures, or one is not finite.
    """

    def __init__(
        self, reference: ArrayLike, *, generator: np.random.Generator, alpha: float = 0.01
    ) -> None:
        """Sort the reference."""
        reference_N = _finite(reference, "reference")
        if len(reference_N) < MIN_REFERENCE or not 0 < alpha < 1:
            raise InvalidInputError(
                f"at least {MIN_REFERENCE} figures and an alpha between 0 and 1 are needed, got "
                f"{len(reference_N)} and {alpha}",
                "reference",
            )
        self._seen: list[float] = sorted(reference_N.tolist())
        self._generator = generator
        self._threshold = -math.log(alpha)
        starts = [0, *(FIRST_RESTART << i for i in range(NUM_BETS - 1))]
        self._bets = [_Bet(start) for start in starts]
        self._log_shares = [-math.log((i + 1) * (i + 2)) for i in range(NUM_BETS)]
        self.num_seen = 0
        self.has_drifted = False

    def extend(self, values: ArrayLike) -> bool:
        """Take figures in their order; return whether a drift was found, now or before."""
        for value in _finite(values, "values").tolist():
            if self.has_drifted:
                break
            rank_class = int(self._rank(value) * NUM_CLASSES)
            for bet in self._bets:
                bet.take(self.num_seen, rank_class)
            self.num_seen += 1
            self.has_drifted = self.log_capital >= self._threshold
        return self.has_drifted

    @property
    def log_capital(self) -> float:
        """Logarithm of what all bets have grown to; each began with its own part of 1."""
        terms = [share + bet.log for share, bet in zip(self._log_shares, self._bets, strict=True)]
        top = max(terms)
        return top + math.log(sum(math.exp(term - top) for term in terms))

    def _rank(self, value: float) -> float:
        """Return the share of all values up to now that lie below it; ties by chance."""
        below, up_to = bisect_left(self._seen, value), bisect_right(self._seen, value)
        insort(self._seen, value)
        place = below + self._generator.random() * (up_to - below + 1)
        return min(place / len(self._seen), math.nextafter(1.0, 0.0))


class _Bet:
    """A bet on the classes of ranks that begins after so many values."""

    __slots__ = ("_counts_K", "_start", "log")

    def __init__(self, start: int) -> None:
        self._start = start
        self._counts_K = [1.0] * NUM_CLASSES
        self.log = 0.0

    def take(self, num_seen: int, rank_class: int) -> None:
        if num_seen < self._start:
            return
        total = NUM_CLASSES + num_seen - self._start
        self.log += math.log(NUM_CLASSES * self._counts_K[rank_class] / total)
        self._counts_K[rank_class] += 1.0


def _finite(values: ArrayLike, name: str) -> NDArray[np.float64]:
    value_N = np.asarray(values, dtype=np.float64)
    if value_N.ndim != 1 or not np.isfinite(value_N).all():
        raise InvalidInputError(f"{name} must be a list of finite numbers", name)
    return value_N
