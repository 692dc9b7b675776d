"""Step 8, retrain: a training set comes in, a router artifact and a report go out.

Pure but for torch's generator, which is forked: no Ray, no clock, no file. A Ray Train worker
calls the same `prepare`, `build_network`, `train_network` (on a DDP model) and `assemble`.

Axis legend: N = rows, M = candidates, D = query vector, K = kinds, P = capability vector.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from router.artifact import RouterArtifact
from router.errors import InvalidInputError
from router.network import LatentRouter, NetworkConfig, Prediction
from training.crossfit import (
    Prepared,
    capabilities,
    epoch_batches,
    estimate_profiles,
    inverse_propensity,
    penalties,
    prepare,
    targets,
)
from training.fit_config import FitConfig
from training.losses import Targets, router_loss
from training.policy_value import PolicyValue, greedy, policy_value, softened, uniform

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import nn

    from router.candidate import Candidate
    from router.features.schema import FeatureSchema
    from training.crossfit import Batch
    from training.dataset import TrainingSet
    from training.losses import Losses

__all__ = [
    "Epoch",
    "FitConfig",
    "FitReport",
    "Held",
    "PolicyValue",
    "assemble",
    "build_network",
    "fit_router",
    "hold_out",
    "policy_values",
    "train_network",
    "training_step",
]

STOP_TEMPERATURE = 0.05
"""Softness of the policy whose validation utility decides when to stop."""


LOSS_SHARE = 0.25
"""How much the validation loss counts beside the utility. A hundred rows cannot tell policies 0.03
apart; utility alone kept overfitted weights (RMSE of quality 0.39 against 0.28 on one-outcome logs
of 1000 rows)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """What one pass over the rows came to."""

    number: int
    """1 for the first; 0 before any training."""

    train_loss: float
    """Mean loss of its steps; NaN before any training."""

    validation_loss: float
    validation_utility: float
    """Of the softened policy."""

    @property
    def merit(self) -> float:
        """Return what decides which epoch is kept."""
        return self.validation_utility - LOSS_SHARE * self.validation_loss


@dataclass(frozen=True, slots=True, kw_only=True)
class FitReport:
    """How training went."""

    num_train_rows: int
    num_validation_rows: int
    num_parameters: int
    epochs: tuple[Epoch, ...]
    best_epoch: int
    """Whose weights were kept; 0 means the profiles alone were never beaten."""

    values: dict[str, PolicyValue]
    """``router``, ``best_single`` (by training rows), ``random``; ``oracle`` where every available
    candidate of every validation row was observed."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Held:
    """Validation rows as network input, with profiles from the training rows."""

    query_ND: torch.Tensor
    capability_MP: torch.Tensor
    available_NM: NDArray[np.bool_]
    weight_NM: NDArray[np.float64]
    targets: Targets

    def utility(self, quality_NM: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return quality minus the predicted penalty."""
        return np.asarray(quality_NM - self.targets.penalty_BM.numpy(), dtype=np.float64)


def fit_router(
    training_set: TrainingSet,
    config: FitConfig,
    *,
    schema: FeatureSchema,
    candidates: Sequence[Candidate],
    on_epoch: Callable[[Epoch], None] | None = None,
) -> tuple[RouterArtifact, FitReport]:
    """Train a router on one process.

    Args:
        training_set: Rows to learn from; test rows are the caller's to keep out.
        config: How.
        schema: Layout of the raw features.
        candidates: The set's columns, in order; their prices are used.
        on_epoch: Told after each pass.

    Raises:
        InvalidInputError: If there is no row, no label, or the columns do not match.
    """
    train, validation = split(training_set, config)
    prepared = prepare(train, config, schema=schema, candidates=candidates)
    held = hold_out(validation, prepared, config, candidates)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = build_network(prepared, config)
        epochs, best_epoch = train_network(network, prepared, held, config, on_epoch=on_epoch)
    report = FitReport(
        num_train_rows=len(train),
        num_validation_rows=len(validation),
        num_parameters=network.num_parameters(),
        epochs=tuple(epochs),
        best_epoch=best_epoch,
        values=policy_values(network, held, prepared),
    )
    return assemble(network, prepared, training_set, config, report), report


def split(training_set: TrainingSet, config: FitConfig) -> tuple[TrainingSet, TrainingSet]:
    """Return training and validation rows; a set of one group validates on itself.

    Raises:
        InvalidInputError: If no entry is observed.
    """
    if not training_set.observed().any():
        raise InvalidInputError("no outcome carries a label; nothing can be learned", "score_NM")
    share = config.validation_share
    train, validation, _ = training_set.split(
        train=1.0 - share, validation=share, seed=config.seed
    )
    if not validation.observed().any() or not train.observed().any():
        return training_set, training_set
    return train, validation


def hold_out(
    validation: TrainingSet,
    prepared: Prepared,
    config: FitConfig,
    candidates: Sequence[Candidate],
) -> Held:
    """Lay out rows that are not among the training rows."""
    query_ND, membership_NK = prepared.encoding.encode(validation)
    penalty_NM = penalties(
        prepared.profiles,
        candidates,
        validation,
        membership_NK,
        prepared.encoding.reference,
        config,
    )
    return Held(
        query_ND=torch.from_numpy(query_ND),
        capability_MP=torch.from_numpy(capabilities(prepared.profiles, candidates)),
        available_NM=validation.available_NM,
        weight_NM=inverse_propensity(validation, config.weight_clip),
        targets=targets(validation, penalty_NM, config.weight_clip),
    )


def build_network(prepared: Prepared, config: FitConfig) -> LatentRouter:
    """Return an untrained network of the right sizes; it repeats what the profiles say."""
    network_config = NetworkConfig(
        query_width=prepared.query_ND.shape[1],
        capability_width=prepared.capability_SVMP.shape[-1],
        num_kinds=prepared.encoding.kinds.num_kinds,
        num_slopes=prepared.query_ND.shape[1] - prepared.encoding.kinds.num_kinds,
        hidden=config.hidden,
        num_tokens=config.num_tokens,
        dropout=config.dropout,
    )
    return LatentRouter(network_config)


def build_optimizer(model: nn.Module, config: FitConfig) -> torch.optim.Optimizer:
    """Return AdamW as the paper sets it."""
    return torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )


def training_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch, config: FitConfig
) -> Losses:
    """Take one step and return its losses, detached.

    Args:
        model: A `LatentRouter`, or one wrapped for distributed training.
        optimizer: Of the model's parameters.
        batch: On the model's device.
        config: Loss weights and clip.

    Raises:
        RuntimeError: If a gradient is not finite; the weights are then unchanged.
    """
    model.train()
    prediction = model(batch.query_BD, batch.capability_BMP, batch.available_BM)
    losses = router_loss(prediction, batch.targets, config.loss)
    optimizer.zero_grad(set_to_none=True)
    losses.total.backward()
    torch.nn.utils.clip_grad_norm_(
        model.parameters(), config.gradient_clip, error_if_nonfinite=True
    )
    optimizer.step()
    return type(losses)(*(term.detach() for term in losses))


def train_network(  # noqa: PLR0913 - the shell of a distributed worker gives its rank
    model: nn.Module,
    prepared: Prepared,
    held: Held,
    config: FitConfig,
    *,
    on_epoch: Callable[[Epoch], None] | None = None,
    rank: int = 0,
    num_ranks: int = 1,
) -> tuple[list[Epoch], int]:
    """Train until the validation utility stops rising, and leave the best weights in the model.

    Every rank sees the same validation rows and weights, so all stop at the same epoch.

    Returns:
        The epochs, the untrained state first, and the number of the one that was kept.
    """
    device = next(model.parameters()).device
    optimizer = build_optimizer(model, config)
    rng = np.random.default_rng(config.seed)
    epochs = [validate(model, held, config, number=0, train_loss=math.nan)]
    best, best_state = epochs[0], copy.deepcopy(model.state_dict())
    for number in range(1, config.max_epochs + 1):
        batches = epoch_batches(prepared, config, rng, rank=rank, num_ranks=num_ranks)
        totals = [
            training_step(model, optimizer, batch.to(device), config).total for batch in batches
        ]
        loss = float(torch.stack(totals).mean()) if totals else math.nan
        epoch = validate(model, held, config, number=number, train_loss=loss)
        epochs.append(epoch)
        if on_epoch is not None:
            on_epoch(epoch)
        if epoch.merit > best.merit:
            best, best_state = epoch, copy.deepcopy(model.state_dict())
        elif number - best.number >= config.patience:
            break
    model.load_state_dict(best_state)
    model.eval()
    return epochs, best.number


def validate(
    model: nn.Module, held: Held, config: FitConfig, *, number: int, train_loss: float
) -> Epoch:
    """Judge the present weights on the validation rows."""
    prediction = _predict(model, held)
    losses = router_loss(prediction, held.targets, config.loss)
    policy_NM = softened(
        held.utility(prediction.mean_BM.numpy()), held.available_NM, STOP_TEMPERATURE
    )
    utility_NM = held.utility(held.targets.quality_BM.numpy())
    return Epoch(
        number=number,
        train_loss=train_loss,
        validation_loss=float(losses.total),
        validation_utility=policy_value(policy_NM, utility_NM, held.weight_NM),
    )


def _predict(model: nn.Module, held: Held) -> Prediction:
    model.eval()
    device = next(model.parameters()).device
    available_BM = torch.from_numpy(held.available_NM)
    with torch.inference_mode():
        prediction = model(
            held.query_ND.to(device), held.capability_MP.to(device), available_BM.to(device)
        )
        return Prediction(*(tensor.cpu() for tensor in prediction))


def policy_values(model: nn.Module, held: Held, prepared: Prepared) -> dict[str, PolicyValue]:
    """Compare the router with the plainest policies on the validation rows."""
    quality_NM = held.targets.quality_BM.numpy()
    utility_NM = held.utility(quality_NM)
    available_NM, observed_NM = held.available_NM, held.weight_NM > 0
    train = prepared.targets
    earned_NM = (train.quality_BM - train.penalty_BM).numpy()
    each = np.eye(earned_NM.shape[1])
    single_M = np.array([policy_value(row, earned_NM, train.weight_BM.numpy()) for row in each])
    single_M = np.nan_to_num(single_M, nan=-np.inf)
    predicted_NM = _predict(model, held).mean_BM.numpy()
    policies = {
        "router": greedy(held.utility(predicted_NM), available_NM),
        "best_single": greedy(np.broadcast_to(single_M, available_NM.shape), available_NM),
        "random": uniform(available_NM),
    }
    if (observed_NM == available_NM).all() and (held.weight_NM[observed_NM] == 1.0).all():
        policies["oracle"] = greedy(np.where(observed_NM, utility_NM, -np.inf), available_NM)
    return {
        name: PolicyValue(
            quality=policy_value(policy_NM, quality_NM, held.weight_NM),
            utility=policy_value(policy_NM, utility_NM, held.weight_NM),
        )
        for name, policy_NM in policies.items()
    }


def assemble(
    network: LatentRouter,
    prepared: Prepared,
    training_set: TrainingSet,
    config: FitConfig,
    report: FitReport,
) -> RouterArtifact:
    """Put the artifact together, with profiles from all rows: training is over, none can leak."""
    encoding = prepared.encoding
    profiles = estimate_profiles(
        training_set,
        encoding.projection.transform(training_set.features_NF),
        encoding.kinds,
        weight_clip=config.weight_clip,
    )
    values = {name: dataclasses.asdict(value) for name, value in report.values.items()}
    return RouterArtifact(
        version=config.version,
        schema=encoding.projection.schema,
        projection=encoding.projection,
        kinds=encoding.kinds,
        network=network.eval(),
        profiles={profile.candidate_id: profile for profile in profiles},
        reference=encoding.reference,
        training_summary=_without_nan(
            {
                "config": dataclasses.asdict(config),
                "num_train_rows": report.num_train_rows,
                "num_validation_rows": report.num_validation_rows,
                "num_observed": training_set.num_observed().tolist(),
                "best_epoch": report.best_epoch,
                "num_epochs": report.epochs[-1].number,
                "validation_values": values,
            }
        ),
    )


def _without_nan(record: object) -> Any:  # noqa: ANN401 - JSON values
    """Replace what JSON cannot say by null."""
    if isinstance(record, dict):
        return {key: _without_nan(value) for key, value in record.items()}
    if isinstance(record, float) and not math.isfinite(record):
        return None
    return record
