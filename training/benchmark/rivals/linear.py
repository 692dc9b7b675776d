"""Rivals that are linear in the features.

Axis legend: N = queries, D = features, M = candidates, S = penalties, R = rank.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.linalg import solve
from torch import nn

from training.benchmark.rivals.pointwise import FittedPointwise, fit_pointwise
from training.benchmark.rivals.rows import Known, candidate_means, known, squared_error
from training.benchmark.rivals.torch_fit import TorchConfig

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from training.benchmark.rivals.rival import RivalRows

PENALTIES = tuple(np.logspace(-2.0, 4.0, 13).tolist())
MAX_DEVIATIONS = 10.0
"""Raw features farther than this from their mean count no further, as in the projection."""


def ridge_path(
    past: Known, penalties: tuple[float, ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return coefficients (S, D, M) and intercepts (S, M) of a ridge regression by candidate.

    The solution of scikit-learn's ``Ridge(alpha=penalty)`` on the candidate's observed rows.
    Candidates observed on the same rows share one Gram matrix, and so do all penalties: with
    1700 features scikit-learn forms it anew for each, thirteen times as long.
    """
    num_penalties, num_features = len(penalties), past.feature_ND.shape[1]
    observed_NM = np.isfinite(past.score_NM)
    coefficient_SDM = np.zeros((num_penalties, num_features, past.score_NM.shape[1]))
    intercept_SM = np.tile(candidate_means(past.score_NM), (num_penalties, 1))
    patterns_NP, pattern_M = np.unique(observed_NM, axis=1, return_inverse=True)
    for number, pattern_N in enumerate(patterns_NP.T):
        if not pattern_N.any():
            continue
        columns = np.flatnonzero(pattern_M == number)
        feature_ND = past.feature_ND[pattern_N].astype(np.float64)
        centre_D = feature_ND.mean(axis=0)
        feature_ND -= centre_D
        mean_M = intercept_SM[0, columns]
        moment_DM = feature_ND.T @ (past.score_NM[np.ix_(pattern_N, columns)] - mean_M)
        gram_DD = feature_ND.T @ feature_ND
        for s, penalty in enumerate(penalties):
            ridged_DD = gram_DD + penalty * np.eye(num_features)
            coefficient_DM = solve(ridged_DD, moment_DM, assume_a="pos", overwrite_a=True)
            coefficient_SDM[s][:, columns] = coefficient_DM
            intercept_SM[s, columns] = mean_M - centre_D @ coefficient_DM
    return coefficient_SDM, intercept_SM


@dataclass(frozen=True, slots=True, kw_only=True)
class Ridge:
    """A ridge regression by candidate on the projected features."""

    name: str = "ridge"
    """How tables call it."""

    penalties: tuple[float, ...] = PENALTIES
    """Of which the validation rows choose one for all candidates, by squared error."""

    def fit(self, train: RivalRows, validation: RivalRows, *, seed: int) -> FittedRidge:  # noqa: ARG002 - nothing is drawn
        """Choose the penalty, then fit on both sets of rows."""
        penalty = choose_penalty(known(train), known(validation), self.penalties)
        return _fit_one(known(train, validation), penalty)


def choose_penalty(past: Known, held: Known, penalties: tuple[float, ...]) -> float:
    """Return the penalty with the least squared error on held-out rows."""
    coefficient_SDM, intercept_SM = ridge_path(past, penalties)
    errors = [
        squared_error(held.feature_ND @ coefficient_DM + intercept_M, held.score_NM)
        for coefficient_DM, intercept_M in zip(coefficient_SDM, intercept_SM, strict=True)
    ]
    return penalties[int(np.argmin(errors))]


def _fit_one(past: Known, penalty: float) -> FittedRidge:
    coefficient_SDM, intercept_SM = ridge_path(past, (penalty,))
    return FittedRidge(
        penalty=penalty, coefficient_DM=coefficient_SDM[0], intercept_M=intercept_SM[0]
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FittedRidge:
    """A linear map from features to qualities, not held within 0 to 1."""

    penalty: float
    coefficient_DM: NDArray[np.float64]
    intercept_M: NDArray[np.float64]

    def of(self, feature_ND: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the qualities for the given features."""
        quality_NM: NDArray[np.float64] = feature_ND @ self.coefficient_DM + self.intercept_M
        return quality_NM

    def quality(self, rows: RivalRows) -> NDArray[np.float64]:
        """Map the projected features."""
        return self.of(rows.projected_ND)


@dataclass(frozen=True, slots=True, kw_only=True)
class RidgeRaw:
    """The same regression on every raw feature, standardised."""

    name: str = "ridge_raw"
    """How tables call it."""

    penalties: tuple[float, ...] = PENALTIES
    """Of which the validation rows choose one for all candidates, by squared error."""

    def fit(self, train: RivalRows, validation: RivalRows, *, seed: int) -> FittedRidgeRaw:  # noqa: ARG002 - nothing is drawn
        """Standardise by the training rows, choose the penalty, fit on both sets of rows."""
        standard = Standard.of(train.table.rows.features_NF)
        past, held = (
            Known(standard.transform(rows.table.rows.features_NF), rows.score_NM)
            for rows in (train, validation)
        )
        penalty = choose_penalty(past, held, self.penalties)
        both = Known(
            np.concatenate([past.feature_ND, held.feature_ND]),
            np.concatenate([past.score_NM, held.score_NM]),
        )
        return FittedRidgeRaw(standard=standard, ridge=_fit_one(both, penalty))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Standard:
    """Deviations from the mean, within a clip; a feature that never varied is 0."""

    mean_F: NDArray[np.float64]
    inverse_F: NDArray[np.float64]

    @classmethod
    def of(cls, features_NF: NDArray[np.float32]) -> Standard:
        """Take the moments of the features."""
        std_F = features_NF.std(axis=0, dtype=np.float64)
        mean_F = features_NF.mean(axis=0, dtype=np.float64)
        # Relative to the mean, because float32 features carry no more than seven digits.
        varies_F = std_F > 1e-6 * np.maximum(1.0, np.abs(mean_F))
        inverse_F = np.where(varies_F, 1.0 / np.where(varies_F, std_F, 1.0), 0.0)
        return cls(mean_F=mean_F, inverse_F=inverse_F)

    def transform(self, features_NF: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the features in deviations."""
        scaled_NF = (features_NF - self.mean_F) * self.inverse_F
        return scaled_NF.clip(-MAX_DEVIATIONS, MAX_DEVIATIONS).astype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FittedRidgeRaw:
    """A linear map from standardised raw features."""

    standard: Standard
    ridge: FittedRidge

    def quality(self, rows: RivalRows) -> NDArray[np.float64]:
        """Map the raw features."""
        return self.ridge.of(self.standard.transform(rows.table.rows.features_NF))


class LinearFactors(nn.Module):
    """Score = x W V' + b (Linear-MF of MMR-Bench): D x R and M x R numbers instead of D x M."""

    def __init__(self, num_features: int, rank: int, bias_M: Tensor) -> None:
        """Start at the candidates' means: V is zero, and W, being random, gives it a gradient."""
        super().__init__()
        self.embed = nn.Linear(num_features, rank, bias=False)
        self.candidate_MR = nn.Parameter(torch.zeros(len(bias_M), rank))
        self.bias_M = nn.Parameter(bias_M.clone())

    def forward(self, feature_BD: Tensor) -> Tensor:
        """Return scores, (B, M)."""
        score_BM: Tensor = self.embed(feature_BD) @ self.candidate_MR.T + self.bias_M
        return score_BM


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearMF:
    """A low-rank linear map, fitted by squared error."""

    name: str = "linear_mf"
    """How tables call it."""

    rank: int = 16
    """Most independent directions; 1 or more."""

    training: TorchConfig = field(default_factory=TorchConfig)
    """How it is trained."""

    def fit(self, train: RivalRows, validation: RivalRows, *, seed: int) -> FittedPointwise:
        """Train until the validation error stops falling."""
        return fit_pointwise(
            lambda num_features, mean_M: LinearFactors(num_features, self.rank, mean_M),
            train,
            validation,
            config=self.training,
            seed=seed,
            is_logit=False,
        )
