"""Step 7, watched: whether a new champion earns less quality than the one before it did.

Labels come one by one and the test is read after each, so its error must hold at all times at
once. It bets against the hypothesis (Waudby-Smith and Ramdas 2023, "Estimating means of bounded
random variables by betting", arXiv 2010.09686, section 4): if the mean of Z, given all before, is
at least m, then

    capital_t = mean over bets b of prod_i (1 + b * (m - Z_i)),    0 < b < 1 / (1 - m)

is a supermartingale that starts at 1 and is never negative; by Ville's inequality it ever reaches
1 / alpha with probability alpha at most. Nothing is assumed of the scores but that they lie in 0
to 1. The mixture over bets spares tuning; its price is the logarithm of their number.

Harder traffic must not look like a worse router. What one fixed router expects of each query is a
control variate: Z = (score + slope * (1 - expected)) / (1 + slope), still in 0 to 1.

Axis legend: N = labels, B = bets.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from router.errors import InvalidInputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

MIN_REFERENCE = 100
"""Labels of the champion before; with fewer its own bound is wider than any regression."""

BETS_B = np.geomspace(0.005, 0.95, 16)
"""Shares of the largest bet that cannot ruin; small ones find small differences, late."""


class Verdict(StrEnum):
    """What the labels say so far."""

    WAIT = "wait"
    REGRESSED = "regressed"
    """It earns less, by more than the tolerance: roll back."""

    HOLDS = "holds"
    """It does not: the watch may end."""


class Capital:
    """What a bet against "the mean is at least this" has grown to."""

    def __init__(self, mean: float) -> None:
        """Start at 1."""
        self._mean = mean
        self._bets_B = BETS_B / max(1.0 - mean, 1e-9)
        self._log_B = np.zeros(len(BETS_B))

    def path(self, values_N: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the logarithm of the capital after each value, and keep the last.

        Args:
            values_N: Each 0 to 1.
        """
        gains_NB = np.log1p((self._mean - values_N)[:, None] * self._bets_B)
        log_NB = self._log_B + np.cumsum(gains_NB, axis=0)
        if len(log_NB):
            self._log_B = log_NB[-1]
        return _log_mean_exp(log_NB)


def lower_bound(values_N: NDArray[np.float64], alpha: float) -> float:
    """Return what the mean lies above with probability 1 - alpha; values in 0 to 1, independent.

    The greatest m such that a bet against "the mean is at most m" reaches 1 / alpha. It is found
    by halving: the capital falls as m rises.
    """
    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        bets_B = BETS_B / max(middle, 1e-9)
        log_1B = np.log1p((values_N - middle)[:, None] * bets_B).sum(axis=0)[None]
        if _log_mean_exp(log_1B)[0] >= -math.log(alpha):
            low = middle
        else:
            high = middle
    return low


def _log_mean_exp(log_NB: NDArray[np.float64]) -> NDArray[np.float64]:
    top_N = log_NB.max(axis=1)
    return np.asarray(top_N + np.log(np.exp(log_NB - top_N[:, None]).mean(axis=1)))


class Watch:
    """Compares the labels of a new champion, as they come, with those of the one before.

    Both must be labels of a random part of the traffic that the router chose for; labels that
    were asked for where two versions disagree are none. Feed them in the order in which they
    arrived: reading the same labels again gives the same verdict, so a job needs to keep nothing.

    Args:
        scores: Labels of the champion before, each 0 to 1.
        expected: What one fixed router expected of the best candidate for each of those queries,
            0 to 1; the same router must tell it for the new champion's.
        alpha: Probability of ever finding a regression where there is none, and of ever finding
            that it holds where it does not; above 0, below 1.
        tolerance: Quality that the new champion may earn less, 0 to 1.

    Raises:
        InvalidInputError: If there are too few labels, or a value is out of its bounds.
    """

    def __init__(
        self,
        scores: ArrayLike,
        expected: ArrayLike,
        *,
        alpha: float = 0.05,
        tolerance: float = 0.01,
    ) -> None:
        """Bound what the champion before earned; nothing of the new one is seen yet."""
        if not (0 < alpha < 1 and 0 <= tolerance <= 1):
            raise InvalidInputError(
                f"alpha must lie between 0 and 1, tolerance in 0 to 1, got {alpha}, {tolerance}",
                "watch",
            )
        score_N, expected_N = _checked(scores, expected)
        if len(score_N) < MIN_REFERENCE:
            raise InvalidInputError(
                f"the champion before has {len(score_N)} labels; at least {MIN_REFERENCE} are "
                "needed, ask for more",
                "scores",
            )
        # The slope is fitted on labels that the bound does not see: it is fixed beforehand.
        num_fitted = len(score_N) // 4
        self._slope = _slope(score_N[:num_fitted], expected_N[:num_fitted])
        value_N = self._controlled(score_N[num_fitted:], expected_N[num_fitted:])
        tolerance /= 1.0 + self._slope
        low = lower_bound(value_N, alpha / 2) - tolerance
        high = 1.0 - lower_bound(1.0 - value_N, alpha / 2) - tolerance
        self._worse = Capital(min(max(low, 0.0), 1.0))
        self._as_good = Capital(1.0 - min(max(high, 0.0), 1.0))
        self._threshold = math.log(2.0 / alpha)
        self.verdict = Verdict.WAIT
        self.num_seen = 0
        self.log_capital = 0.0

    def extend(self, scores: ArrayLike, expected: ArrayLike) -> Verdict:
        """Take labels of the new champion; the first verdict but ``wait`` stays.

        Raises:
            InvalidInputError: If a value is out of its bounds.
        """
        score_N, expected_N = _checked(scores, expected)
        if self.verdict is not Verdict.WAIT or not len(score_N):
            return self.verdict
        value_N = self._controlled(score_N, expected_N)
        worse_N, as_good_N = self._worse.path(value_N), self._as_good.path(1.0 - value_N)
        over_N = (worse_N >= self._threshold) | (as_good_N >= self._threshold)
        end = int(np.argmax(over_N)) if over_N.any() else len(value_N) - 1
        self.num_seen += end + 1
        self.log_capital = float(worse_N[end])
        if over_N.any():
            is_worse = worse_N[end] >= self._threshold
            self.verdict = Verdict.REGRESSED if is_worse else Verdict.HOLDS
        return self.verdict

    def _controlled(
        self, score_N: NDArray[np.float64], expected_N: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        return (score_N + self._slope * (1.0 - expected_N)) / (1.0 + self._slope)


def _slope(score_N: NDArray[np.float64], expected_N: NDArray[np.float64]) -> float:
    """Return the slope of the scores over what was expected, 0 to 1."""
    centred_N = expected_N - expected_N.mean()
    spread = float(centred_N @ centred_N)
    return min(max(float(centred_N @ score_N) / spread, 0.0), 1.0) if spread > 0 else 0.0


def _checked(
    scores: ArrayLike, expected: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    score_N, expected_N = (np.asarray(v, dtype=np.float64) for v in (scores, expected))
    if score_N.shape != expected_N.shape or score_N.ndim != 1:
        raise InvalidInputError(
            f"scores {score_N.shape} and expected {expected_N.shape} must be lists of one length",
            "scores",
        )
    for name, value_N in (("scores", score_N), ("expected", expected_N)):
        if not ((value_N >= 0) & (value_N <= 1)).all():
            raise InvalidInputError(f"{name} must lie in 0 to 1", name)
    return score_N, expected_N
