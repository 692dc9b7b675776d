"""Step 8, retrain: what a policy would have earned on held-out rows, seen or partly seen.

One estimator serves both kinds of row: with every candidate observed it is the plain mean of
what the policy earns; with one observed candidate it is the self-normalised inverse-propensity
estimate (Swaminathan and Joachims 2015).

Axis legend: N = rows, M = candidates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyValue:
    """What a policy earns on held-out rows; NaN where they cannot tell."""

    quality: float
    utility: float


def policy_value(
    policy_NM: NDArray[np.float64],
    value_NM: NDArray[np.floating],
    weight_NM: NDArray[np.float64],
) -> float:
    """Return Σ w π v / Σ w π over observed entries; NaN if the policy meets none of them.

    Args:
        policy_NM: Probability with which the policy chooses each candidate.
        value_NM: Quality or utility; anything where not observed.
        weight_NM: Inverse propensity, 0 where not observed.
    """
    mass_NM = policy_NM * weight_NM
    total = mass_NM.sum()
    if total <= 0:
        return float("nan")
    return float((mass_NM * np.where(weight_NM > 0, value_NM, 0.0)).sum() / total)


def greedy(score_NM: NDArray[np.floating], available_NM: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the policy that takes the best available score; rows without any are all 0."""
    best_N = np.where(available_NM, score_NM, -np.inf).argmax(axis=1)
    policy_NM: NDArray[np.float64] = np.eye(score_NM.shape[1])[best_N] * available_NM
    return policy_NM


def softened(
    score_NM: NDArray[np.floating], available_NM: NDArray[np.bool_], temperature: float
) -> NDArray[np.float64]:
    """Return the softmax policy over available candidates.

    Smoother in the scores than `greedy`: two near-equal scores do not flip a row's value.
    """
    shifted_NM = np.where(available_NM, score_NM, -np.inf)
    peak_N = np.where(available_NM.any(axis=1), shifted_NM.max(axis=1), 0.0)
    weight_NM = np.exp((shifted_NM - peak_N[:, None]) / temperature)
    policy_NM: NDArray[np.float64] = weight_NM / np.maximum(
        weight_NM.sum(axis=1, keepdims=True), 1e-30
    )
    return policy_NM


def uniform(available_NM: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the policy that takes any available candidate with equal chance."""
    policy_NM: NDArray[np.float64] = available_NM / np.maximum(
        available_NM.sum(axis=1, keepdims=True), 1
    )
    return policy_NM
