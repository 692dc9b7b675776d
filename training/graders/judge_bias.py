"""How far a judge is off, measured against gold labels of the same replies.

Axis legend: N = replies with both a judge's score and a gold score.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import norm

from router.errors import InvalidInputError, PointsmanError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

RIGHT = 0.5
"""A score of this or more counts as right."""

MIN_GOLD = 30
"""Fewest gold labels that a judge may be used on; the interval of its bias is then about 0.3
wide for a judge that errs on one reply in six."""


class JudgeRefusedError(PointsmanError):
    """A judge is too far off to be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeBias:
    """What a comparison with gold labels says of a judge."""

    num_gold: int
    """Replies compared."""

    mean: float
    """Mean of judge less gold, -1 to 1; above 0 where the judge is too kind."""

    low: float
    """Lower end of the interval of the mean."""

    high: float
    """Upper end of the same."""

    agreement: float
    """Share of replies on which both say right or both say wrong."""

    kappa: float | None
    """Cohen's kappa: agreement beyond chance, at most 1. None unless all scores are 0 or 1, and
    where both always say the same one thing, so that chance explains all."""

    intercept: float
    """With ``slope``, the line through gold over judge: what gold is to be expected."""

    slope: float
    """Gold per judge; 0 where the judge says the same of all."""

    def line(self) -> str:
        """Return the comparison as text."""
        kappa = "" if self.kappa is None else f", kappa {self.kappa:.2f}"
        return (
            f"bias {self.mean:+.3f} ({self.low:+.3f} to {self.high:+.3f}), agreement "
            f"{self.agreement:.2f}{kappa}, on {self.num_gold} gold replies"
        )


def judge_bias(
    judge_scores: ArrayLike, gold_scores: ArrayLike, *, confidence: float = 0.95
) -> JudgeBias:
    """Compare a judge with gold labels, pair by pair.

    The interval is Agresti and Min's adjusted one for paired proportions (2005, Simple improved
    confidence intervals for comparing matched proportions): two pairs are added, half of a
    disagreement each way and one agreement, so that no disagreement in a few pairs does not claim
    certainty. It serves graded scores alike. For binary scores that are off one way in one of ten,
    the interval at 95 % covered the truth in 92 to 96 % of samples of 30, 40, 80 and 200 replies.

    Args:
        judge_scores: 0 to 1, shape (N,).
        gold_scores: 0 to 1, of the same replies in the same order.
        confidence: Of the interval, above 0 and below 1.

    Raises:
        InvalidInputError: If there is no pair, the lengths differ, or a score is out of bounds.
    """
    judge_N, gold_N = _checked(judge_scores, "judge_scores"), _checked(gold_scores, "gold_scores")
    if len(judge_N) != len(gold_N):
        raise InvalidInputError(
            f"{len(judge_N)} scores of the judge face {len(gold_N)} gold scores", "gold_scores"
        )
    if not 0 < confidence < 1:
        raise InvalidInputError(
            f"confidence must be above 0 and below 1, got {confidence}", "confidence"
        )
    off_N = judge_N - gold_N
    padded = len(off_N) + 2
    centre = off_N.sum() / padded
    spread = (np.square(off_N).sum() + 1.0) / padded - centre**2
    half = float(norm.ppf(0.5 + confidence / 2)) * float(np.sqrt(spread / padded))
    slope = _slope(judge_N, gold_N)
    return JudgeBias(
        num_gold=len(off_N),
        mean=float(off_N.mean()),
        low=max(float(centre) - half, -1.0),
        high=min(float(centre) + half, 1.0),
        agreement=float(((judge_N >= RIGHT) == (gold_N >= RIGHT)).mean()),
        kappa=_kappa(judge_N, gold_N),
        intercept=float(gold_N.mean() - slope * judge_N.mean()),
        slope=slope,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BiasCorrection:
    """Turns a judge's score into the gold score to be expected.

    A straight line by least squares. For a judge that says 0 or 1 its two ends are the shares of
    right replies among those it called wrong and among those it called right. The mean of the
    corrected scores over the gold replies is the gold mean, where nothing is clipped. It holds for
    replies that are right about as often as the gold ones.
    """

    intercept: float
    slope: float

    def apply(self, score: float) -> float:
        """Return the corrected score, 0 to 1."""
        return min(max(self.intercept + self.slope * score, 0.0), 1.0)


def bias_correction(
    bias: JudgeBias, *, max_bias: float = 0.15, min_gold: int = MIN_GOLD
) -> BiasCorrection:
    """Return the correction of a judge, or refuse the judge.

    Args:
        bias: As measured.
        max_bias: Largest mean bias, in either direction, that a correction may mend.
        min_gold: Fewest gold labels.

    Raises:
        JudgeRefusedError: If too little is known of the judge, it is too far off, or its scores do
            not rise with gold.
    """
    if bias.num_gold < min_gold:
        raise JudgeRefusedError(
            f"the judge was measured on {bias.num_gold} gold labels; give at least {min_gold}"
        )
    if abs(bias.mean) > max_bias:
        raise JudgeRefusedError(
            f"the judge is off by {bias.mean:+.3f} ({bias.low:+.3f} to {bias.high:+.3f}), more "
            f"than {max_bias}; use another judge model or a grader"
        )
    if bias.slope <= 0:
        raise JudgeRefusedError(
            "the judge's scores do not rise with gold; use another judge model or a grader"
        )
    return BiasCorrection(intercept=bias.intercept, slope=bias.slope)


def _checked(scores: ArrayLike, field: str) -> NDArray[np.float64]:
    scores_N = np.asarray(scores, dtype=np.float64)
    if scores_N.ndim != 1 or not len(scores_N):
        raise InvalidInputError(f"{field} must be a list of at least one score", field)
    if not ((scores_N >= 0) & (scores_N <= 1)).all():
        raise InvalidInputError(f"{field} must lie in 0 to 1", field)
    return scores_N


def _slope(judge_N: NDArray[np.float64], gold_N: NDArray[np.float64]) -> float:
    apart_N = judge_N - judge_N.mean()
    energy = float(apart_N @ apart_N)
    return float(apart_N @ gold_N) / energy if energy > 1e-12 else 0.0  # noqa: PLR2004 - rounding


def _kappa(judge_N: NDArray[np.float64], gold_N: NDArray[np.float64]) -> float | None:
    """Return (agreement - chance) / (1 - chance); Cohen 1960."""
    if not (np.isin(judge_N, (0.0, 1.0)).all() and np.isin(gold_N, (0.0, 1.0)).all()):
        return None
    observed = float((judge_N == gold_N).mean())
    judge, gold = float(judge_N.mean()), float(gold_N.mean())
    chance = judge * gold + (1 - judge) * (1 - gold)
    return (observed - chance) / (1 - chance) if chance < 1 else None
