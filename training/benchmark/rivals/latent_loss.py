"""The loss of LatentRouter (arXiv 2605.11301), on observed entries alone.

Six terms. Each is a self-normalised average, Σ w l / Σ w over the entries that were observed,
with w the clipped inverse propensity: what was rarely chosen counts for what it stands for, and
a batch of rare rows does not blow up the step. What was available but not observed has no term.

Axis legend: B = queries, M = candidates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn import functional

from router.errors import InvalidInputError

if TYPE_CHECKING:
    from torch import Tensor

LOSS_MIN_STD = 0.02
"""Below this spread the Gaussian term's gradient outgrows all others on labels of 0 and 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LossWeights:
    """Weight of each term; the defaults are the paper's."""

    nll: float = 1.0
    """Gaussian negative log likelihood of the quality; 0 or more."""

    pairwise: float = 0.35
    """Binary cross entropy of which of two observed candidates is better; 0 or more."""

    listwise: float = 0.65
    """Cross entropy between softmaxes of utilities and of scores; 0 or more."""

    utility: float = 0.25
    """Squared error of the score against the utility; 0 or more."""

    quality: float = 0.10
    """Squared error of the uncorrected mean against the quality; 0 or more."""

    correction: float = 0.05
    """Squared correction; 0 or more."""

    target_temperature: float = 0.05
    """Softness of the listwise target; above 0."""

    score_temperature: float = 0.25
    """Softness of scores in both ranking terms: scores lie within 1 of each other, so without
    it the best ranking would still look undecided. Above 0; the paper names none."""

    def __post_init__(self) -> None:
        """Refuse negative weights and temperatures that do not divide."""
        for name in self.__slots__:
            value, is_divisor = getattr(self, name), name.endswith("temperature")
            if not 0 <= value < float("inf") or (is_divisor and value == 0):
                raise InvalidInputError(
                    f"{name} must be {'above 0' if is_divisor else '0 or more'}, got {value}", name
                )


class Prediction(NamedTuple):
    """What a network says of each candidate; finite wherever its inputs are."""

    mean_BM: Tensor
    """Expected quality after the bounded correction, 0 to 1."""

    std_BM: Tensor
    """Predicted spread of the outcome about its mean, above 0."""

    mu_BM: Tensor
    """Expected quality before the correction, 0 to 1."""

    correction_BM: Tensor
    """The correction, within its bound."""


class Targets(NamedTuple):
    """What the predictions of a batch are held against."""

    quality_BM: Tensor
    """Labels, 0 to 1; anything, NaN included, where not observed."""

    penalty_BM: Tensor
    """Weighted, normalised cost and latency as *predicted*; score = mean - penalty."""

    observed_BM: Tensor
    """True where there is a label."""

    weight_BM: Tensor
    """Clipped inverse propensity, above 0; anything where not observed."""


class Losses(NamedTuple):
    """The terms, unweighted, and their weighted sum; scalars."""

    total: Tensor
    nll: Tensor
    pairwise: Tensor
    listwise: Tensor
    utility: Tensor
    quality: Tensor
    correction: Tensor


def masked_softmax(logits: Tensor, available: Tensor) -> Tensor:
    """Softmax over the last axis that gives unavailable entries exactly nothing.

    Where nothing is available every weight is 0 instead of NaN.
    """
    logits = logits.masked_fill(~available, float("-inf"))
    peak = logits.amax(dim=-1, keepdim=True).detach()
    peak = peak.masked_fill(peak == float("-inf"), 0.0)
    weight = (logits - peak).exp()
    return weight / weight.sum(dim=-1, keepdim=True).clamp_min(1e-30)


def router_loss(prediction: Prediction, targets: Targets, weights: LossWeights) -> Losses:
    """Return the loss of a batch; finite, with finite gradients, for any pattern of labels.

    A row with one observed candidate has no ranking terms; a batch without labels costs 0.
    """
    observed_BM = targets.observed_BM
    weight_BM = torch.where(observed_BM, targets.weight_BM, 0.0)
    quality_BM = torch.where(observed_BM, targets.quality_BM, 0.0)
    score_BM = prediction.mean_BM - targets.penalty_BM
    utility_BM = quality_BM - targets.penalty_BM
    std_BM = prediction.std_BM.clamp_min(LOSS_MIN_STD)
    nll_BM = 0.5 * ((quality_BM - prediction.mean_BM) / std_BM) ** 2 + std_BM.log()
    scaled_BM = score_BM / weights.score_temperature
    terms = {
        "nll": _average(nll_BM, weight_BM),
        "pairwise": pairwise_loss(scaled_BM, utility_BM, weight_BM),
        "listwise": listwise_loss(scaled_BM, utility_BM / weights.target_temperature, weight_BM),
        "utility": _average((score_BM - utility_BM) ** 2, weight_BM),
        "quality": _average((prediction.mu_BM - quality_BM) ** 2, weight_BM),
        "correction": _average(prediction.correction_BM**2, weight_BM),
    }
    total = sum(getattr(weights, name) * term for name, term in terms.items())
    return Losses(total=total, **terms)


def _average(loss: Tensor, weight: Tensor) -> Tensor:
    # An empty sum is 0 / tiny = 0, and its gradient too.
    return (weight * loss).sum() / weight.sum().clamp_min(1e-12)


def pairwise_loss(score_BM: Tensor, utility_BM: Tensor, weight_BM: Tensor) -> Tensor:
    """Return the mean of -log sigmoid(s_i - s_j) over pairs with u_i > u_j; ties are left out.

    Args:
        score_BM: Scores in units of their temperature.
        utility_BM: Observed utilities.
        weight_BM: Weight of each entry, 0 where not observed; a pair weighs their product.
    """
    is_better_BMM = utility_BM.unsqueeze(2) > utility_BM.unsqueeze(1)
    weight_BMM = weight_BM.unsqueeze(2) * weight_BM.unsqueeze(1) * is_better_BMM
    return _average(functional.softplus(score_BM.unsqueeze(1) - score_BM.unsqueeze(2)), weight_BMM)


def listwise_loss(score_BM: Tensor, utility_BM: Tensor, weight_BM: Tensor) -> Tensor:
    """Return the mean cross entropy of softmax(score) against softmax(utility) (ListNet).

    Both run over the observed candidates of a row; rows with fewer than two are left out, and a
    row weighs the mean weight of its observed entries.

    Args:
        score_BM: Scores in units of their temperature.
        utility_BM: Observed utilities in units of the target temperature.
        weight_BM: Weight of each entry, 0 where not observed.
    """
    observed_BM = weight_BM > 0
    target_BM = masked_softmax(utility_BM, observed_BM)
    log_share_BM = score_BM.masked_fill(~observed_BM, -1e9).log_softmax(dim=-1)
    entropy_B = -(target_BM * torch.where(observed_BM, log_share_BM, 0.0)).sum(dim=-1)
    num_observed_B = observed_BM.sum(dim=-1)
    weight_B = weight_BM.sum(dim=-1) / num_observed_B.clamp_min(1)
    return _average(entropy_B, weight_B * (num_observed_B > 1))
