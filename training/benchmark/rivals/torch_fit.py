"""The one training loop behind every rival that is a torch model.

Pure but for torch's generator, which is forked.

Axis legend: N = queries, B = rows of a batch, D = features, M = candidates.
"""

from __future__ import annotations

import copy
import math
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from router.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from training.benchmark.rivals.rival import RivalRows

MIN_STEPS_PER_CHECK = 25
"""A check comes after a pass over the rows, but never sooner: on 300 rows a pass is three steps,
and a patience of 15 such passes would end before anything was learned."""

PREDICTION_ROWS = 128
"""Rows judged at once, which bounds memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchConfig:
    """How a model is trained; the defaults are LatentRouter's as published."""

    learning_rate: float = 1e-3
    """Step size of AdamW; above 0, at most 1."""

    weight_decay: float = 1e-4
    """Of AdamW; 0 to 1."""

    gradient_clip: float = 5.0
    """Largest norm of a step's gradient; above 0, at most 1000."""

    batch_size: int = 128
    """Rows a step; 1 to 65536."""

    max_steps: int = 3000
    """Most steps; 1 to 1 000 000."""

    patience: int = 15
    """Checks without a better validation figure before stopping; 1 to 10000."""

    def __post_init__(self) -> None:
        """Refuse values outside their bounds."""
        for name, (low, high) in _BOUNDS.items():
            if not low <= getattr(self, name) <= high:
                raise InvalidInputError(
                    f"{name} must be {low} to {high}, got {getattr(self, name)}", name
                )


_BOUNDS: dict[str, tuple[float, float]] = {
    "learning_rate": (1e-8, 1.0),
    "weight_decay": (0.0, 1.0),
    "gradient_clip": (1e-3, 1000.0),
    "batch_size": (1, 65536),
    "max_steps": (1, 1_000_000),
    "patience": (1, 10000),
}


class Labelled(NamedTuple):
    """Rows as tensors."""

    feature_ND: Tensor
    score_NM: Tensor
    """0 where not observed."""

    observed_NM: Tensor

    def take(self, index_B: Tensor) -> Labelled:
        """Return the chosen rows."""
        return Labelled(*(tensor[index_B] for tensor in self))


def labelled(rows: RivalRows, scale: float) -> Labelled:
    """Return rows as tensors, their projected features times ``scale``."""
    observed_NM = np.isfinite(rows.score_NM)
    return Labelled(
        scaled_features(rows, scale),
        torch.from_numpy(np.where(observed_NM, rows.score_NM, 0.0).astype(np.float32)),
        torch.from_numpy(observed_NM),
    )


def scaled_features(rows: RivalRows, scale: float) -> Tensor:
    """Return the projected features times ``scale``."""
    return torch.from_numpy((rows.projected_ND * scale).astype(np.float32))


def feature_scale(rows: RivalRows) -> float:
    """Return the factor that brings the mean squared feature to 1.

    One factor for all: the projection balances its blocks, and raising each of their minor
    components to the energy of the main ones would undo that.
    """
    energy = float(np.square(rows.projected_ND, dtype=np.float64).mean())
    return energy**-0.5 if energy > 0 else 1.0


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Give torch's global generator a seed, and its former state back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def train_model(
    model: nn.Module,
    loss: Callable[[Tensor], Tensor],
    merit: Callable[[], float],
    *,
    num_rows: int,
    config: TorchConfig,
    seed: int,
) -> int:
    """Train until the merit stops rising, and leave the best weights in the model.

    Args:
        model: What is trained; in evaluation mode on return.
        loss: Loss of the training rows whose indices it is given.
        merit: Judges the present weights on validation rows; larger is better. NaN means that
            they cannot tell, and then the last weights are kept.
        num_rows: Training rows, 1 or more.
        config: How.
        seed: Seed of the order of rows.

    Returns:
        The step after which the kept weights stood; 0 if training never helped.

    Raises:
        RuntimeError: If a gradient is not finite.
    """
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    batches = _batches(num_rows, config.batch_size, np.random.default_rng(seed))
    num_steps = max(-(-num_rows // config.batch_size), MIN_STEPS_PER_CHECK)
    step, misses = 0, 0
    model.eval()
    best, best_step, best_state = merit(), 0, copy.deepcopy(model.state_dict())
    while step < config.max_steps and misses < config.patience:
        model.train()
        for index_B in islice(batches, min(num_steps, config.max_steps - step)):
            _step(model, optimizer, loss(index_B), config.gradient_clip)
            step += 1
        model.eval()
        if not (value := merit()) <= best:  # true of NaN as well
            best, best_step, misses = value, step, 0
            best_state = copy.deepcopy(model.state_dict())
        else:
            misses += 1
    model.load_state_dict(best_state)
    return best_step


def train_on_labels(
    model: nn.Module,
    loss: Callable[[Tensor, Labelled], Tensor],
    parts: tuple[Labelled, Labelled],
    *,
    config: TorchConfig,
    seed: int,
) -> None:
    """Train a model from features alone until its validation loss stops falling.

    Args:
        model: From features to an output by candidate.
        loss: Judges outputs by the rows they were made for.
        parts: Training rows and validation rows.
        config: How.
        seed: Seed of the order of rows.
    """
    past, held = parts

    def merit() -> float:
        if not held.observed_NM.any():
            return math.nan
        with torch.inference_mode():
            return -float(loss(model(held.feature_ND), held))

    def step_loss(index_B: Tensor) -> Tensor:
        rows = past.take(index_B)
        return loss(model(rows.feature_ND), rows)

    train_model(model, step_loss, merit, num_rows=len(past.feature_ND), config=config, seed=seed)


def _step(
    model: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor, gradient_clip: float
) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), gradient_clip, error_if_nonfinite=True)
    optimizer.step()


def _batches(num_rows: int, batch_size: int, rng: np.random.Generator) -> Iterator[Tensor]:
    """Yield the rows of shuffled passes without end."""
    while True:
        order_N = torch.from_numpy(rng.permutation(num_rows))
        yield from order_N.split(batch_size)


def predict(judge: Callable[[slice], Tensor], num_rows: int) -> NDArray[np.float64]:
    """Return what ``judge`` says of the rows, chunk by chunk and without gradients."""
    with torch.inference_mode():
        parts = [
            judge(slice(start, start + PREDICTION_ROWS))
            for start in range(0, max(num_rows, 1), PREDICTION_ROWS)
        ]
        return torch.cat(parts).double().numpy()
