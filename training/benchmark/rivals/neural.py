"""Rivals that are small neural networks.

Axis legend: N = queries, B = rows of a batch, D = features, M = candidates, H = hidden width,
R = embedding width.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from training.benchmark.rivals.pointwise import FittedPointwise, fit_pointwise
from training.benchmark.rivals.torch_fit import (
    Labelled,
    TorchConfig,
    feature_scale,
    labelled,
    predict,
    scaled_features,
    seeded,
    train_on_labels,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from training.benchmark.rivals.rival import RivalRows

DROPOUT = 0.1
GOOD_SHARE = 0.75
BAD_SHARE = 0.25
"""Where a score must lie in its row's range, from worst to best, to be pulled or pushed."""

SIMILARITY_TEMPERATURE = 0.2
"""Softness of the cosine similarities, which lie within 2 of each other."""

MIN_SLOPE = 1e-3
"""Least quality that one unit of similarity stands for: the ranking is never turned round."""


def _hidden(num_features: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(num_features, hidden), nn.GELU(), nn.Dropout(DROPOUT))


class ScoreNetwork(nn.Module):
    """One hidden layer, one output by candidate."""

    def __init__(self, num_features: int, hidden: int, bias_M: Tensor) -> None:
        """Start at the candidates' mean logits: the last weights are zero."""
        super().__init__()
        self.hidden = _hidden(num_features, hidden)
        self.out = nn.Linear(hidden, len(bias_M))
        nn.init.zeros_(self.out.weight)
        self.out.bias.data.copy_(bias_M)

    def forward(self, feature_BD: Tensor) -> Tensor:
        """Return logits, (B, M)."""
        logit_BM: Tensor = self.out(self.hidden(feature_BD))
        return logit_BM


class FactorNetwork(nn.Module):
    """Logit = embedding of the query . embedding of the candidate + bias (MLP-MF of MMR-Bench)."""

    def __init__(self, num_features: int, hidden: int, rank: int, bias_M: Tensor) -> None:
        """Start at the candidates' mean logits: their embeddings are zero."""
        super().__init__()
        self.embed = nn.Sequential(_hidden(num_features, hidden), nn.Linear(hidden, rank))
        self.candidate_MR = nn.Parameter(torch.zeros(len(bias_M), rank))
        self.bias_M = nn.Parameter(bias_M.clone())

    def forward(self, feature_BD: Tensor) -> Tensor:
        """Return logits, (B, M)."""
        logit_BM: Tensor = self.embed(feature_BD) @ self.candidate_MR.T + self.bias_M
        return logit_BM


class ContrastNetwork(nn.Module):
    """Cosine similarity of the query's embedding with each candidate's learned one."""

    def __init__(self, num_features: int, hidden: int, rank: int, num_candidates: int) -> None:
        """Draw the candidates' embeddings."""
        super().__init__()
        self.embed = nn.Sequential(_hidden(num_features, hidden), nn.Linear(hidden, rank))
        self.candidate_MR = nn.Parameter(torch.randn(num_candidates, rank))

    def forward(self, feature_BD: Tensor) -> Tensor:
        """Return similarities over their temperature, (B, M)."""
        query_BR = functional.normalize(self.embed(feature_BD), dim=-1)
        candidate_MR = functional.normalize(self.candidate_MR, dim=-1)
        return query_BR @ candidate_MR.T / SIMILARITY_TEMPERATURE


def contrast_loss(similarity_BM: Tensor, rows: Labelled) -> Tensor:
    """Return RouterDC's sample-LLM contrastive loss (arXiv 2409.19886), the mean over good ones.

    Each good candidate g of a row costs -log(e^s_g / (e^s_g + Σ e^s_b)) over the row's bad
    candidates b: a score in the upper quarter of the row's range is good, in the lower quarter
    bad. Rows whose observed scores are all equal have neither.

    Args:
        similarity_BM: Similarities over their temperature.
        rows: The scores they are judged by.
    """
    score_BM, observed_BM = rows.score_NM, rows.observed_NM
    best_B1 = score_BM.masked_fill(~observed_BM, -torch.inf).amax(dim=1, keepdim=True)
    worst_B1 = score_BM.masked_fill(~observed_BM, torch.inf).amin(dim=1, keepdim=True)
    observed_BM = observed_BM & (best_B1 > worst_B1)
    share_BM = (score_BM - worst_B1) / (best_B1 - worst_B1).clamp_min(1e-12)
    good_BM = observed_BM & (share_BM >= GOOD_SHARE)
    bad_BM = observed_BM & (share_BM <= BAD_SHARE)
    # Finite, so that a row without bad candidates has no NaN in its gradient.
    bad_B1 = similarity_BM.masked_fill(~bad_BM, -1e9).logsumexp(dim=1, keepdim=True)
    loss_BM = functional.softplus(bad_B1 - similarity_BM)
    return (loss_BM * good_BM).sum() / good_BM.sum().clamp_min(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class MLP:
    """A network with one output by candidate, trained by binary cross entropy."""

    name: str = "mlp"
    """How tables call it."""

    hidden: int = 128
    """H; 1 or more."""

    training: TorchConfig = field(default_factory=TorchConfig)
    """How it is trained."""

    def fit(self, train: RivalRows, validation: RivalRows, *, seed: int) -> FittedPointwise:
        """Train until the validation loss stops falling."""
        return fit_pointwise(
            lambda num_features, bias_M: ScoreNetwork(num_features, self.hidden, bias_M),
            train,
            validation,
            config=self.training,
            seed=seed,
            is_logit=True,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MLPMF:
    """A query network times candidate embeddings, trained by binary cross entropy."""

    name: str = "mlp_mf"
    """How tables call it."""

    hidden: int = 128
    """H; 1 or more."""

    rank: int = 32
    """R; 1 or more."""

    training: TorchConfig = field(default_factory=TorchConfig)
    """How it is trained."""

    def fit(self, train: RivalRows, validation: RivalRows, *, seed: int) -> FittedPointwise:
        """Train until the validation loss stops falling."""
        return fit_pointwise(
            lambda num_features, bias_M: FactorNetwork(
                num_features, self.hidden, self.rank, bias_M
            ),
            train,
            validation,
            config=self.training,
            seed=seed,
            is_logit=True,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """A query network and candidate embeddings, trained by contrast alone, after RouterDC.

    Its second loss, which pulls clustered queries together, and its language model as encoder
    are left out: every rival reads the same features.
    """

    name: str = "routerdc"
    """How tables call it."""

    hidden: int = 128
    """H; 1 or more."""

    rank: int = 32
    """R; 1 or more."""

    training: TorchConfig = field(default_factory=TorchConfig)
    """How it is trained."""

    def fit(self, train: RivalRows, validation: RivalRows, *, seed: int) -> FittedContrast:
        """Train until the validation loss stops falling, then learn what a similarity is worth."""
        scale = feature_scale(train)
        past, held = labelled(train, scale), labelled(validation, scale)
        num_features, num_candidates = past.feature_ND.shape[1], past.score_NM.shape[1]
        with seeded(seed):
            model = ContrastNetwork(num_features, self.hidden, self.rank, num_candidates)
            train_on_labels(model, contrast_loss, (past, held), config=self.training, seed=seed)
        slope, intercept = _worth(model, held)
        return FittedContrast(model=model, scale=scale, slope=slope, intercept=intercept)


def _worth(model: nn.Module, held: Labelled) -> tuple[float, float]:
    """Return the least-squares line from similarity to score; the slope is kept above 0."""
    observed_NM = held.observed_NM.numpy()
    if not observed_NM.any():
        return MIN_SLOPE, 0.0
    similarity_NM = predict(lambda part: model(held.feature_ND[part]), len(observed_NM))
    x, y = similarity_NM[observed_NM], held.score_NM.numpy()[observed_NM]
    centred = x - x.mean()
    slope = float(centred @ y) / max(float(centred @ centred), 1e-12)
    slope = max(slope, MIN_SLOPE)
    return slope, float(y.mean() - slope * x.mean())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FittedContrast:
    """A trained similarity, and the line that turns it into units of quality."""

    model: nn.Module
    scale: float
    slope: float
    intercept: float

    def quality(self, rows: RivalRows) -> NDArray[np.float64]:
        """Return similarities in units of quality."""
        feature_ND = scaled_features(rows, self.scale)
        similarity_NM = predict(lambda part: self.model(feature_ND[part]), len(feature_ND))
        quality_NM: NDArray[np.float64] = self.slope * similarity_NM + self.intercept
        return quality_NM
