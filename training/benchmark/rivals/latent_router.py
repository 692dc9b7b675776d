"""LatentRouter as published (arXiv 2605.11301), written from its description.

Two things cannot be had here as published. The realised cost of the query at hand, an input and
a penalty there, gives way to the predicted cost. And an availability that doubles as "was
observed" can be kept in training alone: on the rows it is asked about, it is told who may be
chosen.

Axis legend: N = queries, B = rows of a batch, D = features, M = candidates, P = profile.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from training.benchmark.rivals.latent_loss import LossWeights, Prediction, Targets, router_loss
from training.benchmark.rivals.latent_network import LatentConfig, LatentNetwork
from training.benchmark.rivals.latent_profile import pool_profiles, standardised
from training.benchmark.rivals.pointwise import LOGIT_EPS
from training.benchmark.rivals.rows import subset
from training.benchmark.rivals.torch_fit import (
    TorchConfig,
    feature_scale,
    predict,
    scaled_features,
    seeded,
    train_model,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from training.benchmark.rivals.rival import FittedRival, Rival, RivalRows

NUM_START_FOLDS = 5
"""Folds in which the training rows get their starts, so that none is told its own label."""


class Inputs(NamedTuple):
    """Rows as the network reads them."""

    query_ND: Tensor
    cost_NM: Tensor
    available_NM: Tensor
    start_NM: Tensor
    """Added to the logits of the mean; 0 as published."""

    def take(self, rows: Tensor | slice) -> Inputs:
        """Return the chosen rows."""
        return Inputs(*(tensor[rows] for tensor in self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Units:
    """Units of the inputs, from the training rows."""

    scale: float
    """Factor on the projected features, which were standardised before the projection."""

    cost_usd: float
    """The dearest candidate's mean predicted cost."""

    @classmethod
    def of(cls, train: RivalRows) -> Units:
        """Measure the units; a pool that costs nothing gets 1 USD."""
        dearest_usd = float(train.cost_usd_NM.mean(axis=0).max())
        return cls(scale=feature_scale(train), cost_usd=dearest_usd or 1.0)

    def read(self, rows: RivalRows, available_NM: NDArray[np.bool_]) -> Inputs:
        """Return rows as input without a start."""
        cost_NM = torch.from_numpy((rows.cost_usd_NM / self.cost_usd).astype(np.float32))
        return Inputs(
            query_ND=scaled_features(rows, self.scale),
            cost_NM=cost_NM,
            available_NM=torch.from_numpy(available_NM),
            start_NM=torch.zeros_like(cost_NM),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentRouter:
    """Query capsules, capability tokens, latent communication, and the six-term loss."""

    name: str = "latent_router"
    """How tables call it."""

    network: LatentConfig = field(default_factory=LatentConfig)
    """Sizes, and what is left out for ablation."""

    training: TorchConfig = field(default_factory=TorchConfig)
    """How it is trained."""

    loss: LossWeights = field(default_factory=lambda: LossWeights(score_temperature=1.0))
    """Weights of the loss. The paper names no temperature of the scores, so it is 1."""

    cost_weight: float = 0.0
    """Quality given up for one mean cost of the dearest candidate while training; 0 or more. The
    paper's performance-cost training has 0.03."""

    start: Rival | None = None
    """For ablation: a rival whose quality the network starts from, which shows what the network
    adds to it. As published there is none."""

    def fit(self, train: RivalRows, validation: RivalRows, *, seed: int) -> FittedLatentRouter:
        """Train until the utility of the validation rows stops rising."""
        units = Units.of(train)
        past, held = (units.read(rows, np.isfinite(rows.score_NM)) for rows in (train, validation))
        fitted_start = None
        if self.start is not None:
            past_start_NM, held_start_NM = _cross_fitted(self.start, train, validation, seed)
            past = past._replace(start_NM=past_start_NM)
            held = held._replace(start_NM=held_start_NM)
            fitted_start = self.start.fit(train, validation, seed=seed)
        targets, held_targets = self._targets(train, past), self._targets(validation, held)
        profile_MP = standardised(pool_profiles(train.score_NM, past.cost_NM.double().numpy()))
        with seeded(seed):
            network = LatentNetwork(past.query_ND.shape[1], profile_MP.shape[1], self.network)
            fitted = FittedLatentRouter(
                units=units,
                network=network,
                profile_MP=torch.from_numpy(profile_MP.astype(np.float32)),
                start=fitted_start,
            )
            if self.start is not None:
                network.silence()

            def loss(index_B: Tensor) -> Tensor:
                chosen = Targets(*(tensor[index_B] for tensor in targets))
                return router_loss(fitted.predict(past.take(index_B)), chosen, self.loss).total

            train_model(
                network,
                loss,
                lambda: greedy_utility(fitted.mean(held), held_targets),
                num_rows=len(train.score_NM),
                config=self.training,
                seed=seed,
            )
        return fitted

    def _targets(self, rows: RivalRows, inputs: Inputs) -> Targets:
        score_NM = torch.from_numpy(rows.score_NM.astype(np.float32))
        return Targets(
            quality_BM=score_NM.nan_to_num(0.0),
            penalty_BM=self.cost_weight * inputs.cost_NM,
            observed_BM=inputs.available_NM,
            weight_BM=inputs.available_NM.float(),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FittedLatentRouter:
    """A trained network with the profiles of the pool it was trained on, and of no other."""

    units: Units
    network: LatentNetwork
    profile_MP: Tensor
    start: FittedRival | None

    def quality(self, rows: RivalRows) -> NDArray[np.float64]:
        """Return the mean after the bounded correction."""
        inputs = self.units.read(rows, rows.available_NM)
        if self.start is not None:
            inputs = inputs._replace(start_NM=_logit(self.start.quality(rows)))
        return self.mean(inputs)

    def mean(self, inputs: Inputs) -> NDArray[np.float64]:
        """Return the predicted mean of the given rows, chunk by chunk."""
        return predict(lambda part: self.predict(inputs.take(part)).mean_BM, len(inputs.cost_NM))

    def predict(self, inputs: Inputs) -> Prediction:
        """Return all that the network says of the given rows."""
        prediction: Prediction = self.network(
            inputs.query_ND, self.profile_MP, inputs.cost_NM, inputs.available_NM, inputs.start_NM
        )
        return prediction


def greedy_utility(mean_NM: NDArray[np.float64], targets: Targets) -> float:
    """Return the mean utility of the best observed candidate by score; NaN without labels."""
    observed_NM = targets.observed_BM.numpy()
    rows = np.flatnonzero(observed_NM.any(axis=1))
    if not len(rows):
        return float("nan")
    penalty_NM = targets.penalty_BM.numpy()
    choice_N = np.where(observed_NM, mean_NM - penalty_NM, -np.inf).argmax(axis=1)
    utility_NM = targets.quality_BM.numpy() - penalty_NM
    return float(utility_NM[rows, choice_N[rows]].mean())


def _cross_fitted(
    rival: Rival, train: RivalRows, validation: RivalRows, seed: int
) -> tuple[Tensor, Tensor]:
    """Return the starts of both sets of rows, none from a rival that saw the row's label.

    A rival may refit on the rows it chose its settings on, so these come from the training rows
    as well, one fold of them.
    """
    num_folds = min(NUM_START_FOLDS, len(np.unique(train.group_N)))
    fold_N = train.table.rows.folds(num_folds, seed)
    quality_NM = np.empty(train.score_NM.shape)
    for fold in range(num_folds):
        chooser = (fold + 1) % num_folds
        fitted = rival.fit(
            subset(train, (fold_N != fold) & (fold_N != chooser)),
            subset(train, fold_N == chooser),
            seed=seed,
        )
        quality_NM[fold_N == fold] = fitted.quality(subset(train, fold_N == fold))
    whole = rival.fit(subset(train, fold_N != 0), subset(train, fold_N == 0), seed=seed)
    return _logit(quality_NM), _logit(whole.quality(validation))


def _logit(quality_NM: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(quality_NM.astype(np.float32)).clamp(LOGIT_EPS, 1 - LOGIT_EPS).logit()
