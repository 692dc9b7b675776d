"""Step 8, retrain: how a router is trained."""

from __future__ import annotations

from dataclasses import dataclass, field

from router.errors import InvalidInputError
from training.losses import LossWeights


@dataclass(frozen=True, slots=True, kw_only=True)
class FitConfig:
    """How a router is trained; the defaults are the paper's where it names a value."""

    version: str = "draft"
    """Name of the router version that comes out."""

    seed: int = 0
    """Seed of splits, starts, dropout and pools; 0 or more."""

    cost_weight: float = 0.0
    """Quality given up for one reference cost while training; 0 to 100."""

    latency_weight: float = 0.0
    """Quality given up for one reference latency while training; 0 to 100."""

    num_components: int = 64
    """Most components a block of features is projected to; 1 to 4096."""

    num_kinds: int = 16
    """Most kinds of query; 1 to 1024."""

    num_folds: int = 5
    """Folds in which profiles are cross-fitted; 2 to 50."""

    validation_share: float = 0.15
    """Share of the groups that decide when to stop; 0.01 to 0.5."""

    batch_size: int = 128
    """Rows a step; 1 to 65536."""

    max_epochs: int = 80
    """Most passes over the training rows; 1 to 10000."""

    patience: int = 15
    """Passes without a better validation utility before stopping; 1 to 10000."""

    learning_rate: float = 1e-3
    """Step size of AdamW; above 0, at most 1."""

    weight_decay: float = 1e-4
    """Of AdamW; 0 to 1."""

    gradient_clip: float = 5.0
    """Largest norm of a step's gradient; above 0, at most 1000."""

    weight_clip: float = 10.0
    """Largest inverse propensity; bounds the variance at the price of some bias. 1 to 1000."""

    candidate_dropout: float = 0.25
    """Chance of masking an available candidate while training; 0 to 0.9."""

    hidden: int = 48
    """H of the network."""

    num_tokens: int = 4
    """T of the network."""

    dropout: float = 0.1
    """Dropout of the network."""

    loss: LossWeights = field(default_factory=LossWeights)
    """Weights of the loss."""

    def __post_init__(self) -> None:
        """Refuse values outside their bounds; the network checks its own."""
        for name, (low, high) in _BOUNDS.items():
            if not low <= getattr(self, name) <= high:
                raise InvalidInputError(
                    f"{name} must be {low} to {high}, got {getattr(self, name)}", name
                )


_BOUNDS: dict[str, tuple[float, float]] = {
    "seed": (0, 2**32 - 1),
    "cost_weight": (0.0, 100.0),
    "latency_weight": (0.0, 100.0),
    "num_components": (1, 4096),
    "num_kinds": (1, 1024),
    "num_folds": (2, 50),
    "validation_share": (0.01, 0.5),
    "batch_size": (1, 65536),
    "max_epochs": (1, 10000),
    "patience": (1, 10000),
    "learning_rate": (1e-8, 1.0),
    "weight_decay": (0.0, 1.0),
    "gradient_clip": (1e-3, 1000.0),
    "weight_clip": (1.0, 1000.0),
    "candidate_dropout": (0.0, 0.9),
}
