"""Step 8, retrain: how a router is trained."""

from __future__ import annotations

from dataclasses import dataclass

from router.errors import InvalidInputError


@dataclass(frozen=True, slots=True, kw_only=True)
class FitConfig:
    """How a router is trained. What can be chosen by cross-validation is no field here."""

    version: str = "draft"
    """Name of the router version that comes out."""

    seed: int = 0
    """Seed of folds, anchors and kinds; 0 or more."""

    num_components: int = 128
    """Most components a block of features is projected to; 1 to 4096."""

    num_kinds: int = 16
    """Most kinds of query; 1 to 1024."""

    num_anchors: int = 1024
    """Most anchors; 1 to 16384. Training time grows with it, a request's time too."""

    num_folds: int = 5
    """Folds of the cross-validation; 2 to 50."""

    weight_clip: float = 10.0
    """Largest inverse propensity; bounds the variance at the price of some bias. 1 to 1000."""

    shares_penalty: bool = False
    """Whether tokens take the difficulty's penalty instead of one of their own; for comparison."""

    def __post_init__(self) -> None:
        """Refuse values outside their bounds."""
        for name, (low, high) in _BOUNDS.items():
            if not low <= getattr(self, name) <= high:
                raise InvalidInputError(
                    f"{name} must be {low} to {high}, got {getattr(self, name)}", name
                )


_BOUNDS: dict[str, tuple[float, float]] = {
    "seed": (0, 2**32 - 1),
    "num_components": (1, 4096),
    "num_kinds": (1, 1024),
    "num_anchors": (1, 16384),
    "num_folds": (2, 50),
    "weight_clip": (1.0, 1000.0),
}
