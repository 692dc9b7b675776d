"""Step 5, first half: turn predicted quality, cost and latency into one number per candidate.

Axis legend: M = candidates, in the order of the pool.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from router.records import Routing


FLOOR_COST_WEIGHT = 1e6
"""Whoever states a floor and no weight wants the cheapest candidate above the floor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What one unit of normalised cost and latency stands for.

    Fixed when a router is trained, never taken from the pool of the moment: an added or masked
    candidate must not move the utility of the others.
    """

    cost_usd: float = 1.0
    """Mean cost of the dearest candidate over the training queries, in USD; positive."""

    latency_s: float = 1.0
    """Median latency of the slowest candidate over the training queries; positive."""

    def __post_init__(self) -> None:
        """Refuse references that cannot divide."""
        if not (self.cost_usd > 0 and self.latency_s > 0):
            raise ValueError(
                f"references must be positive, got {self.cost_usd} USD, {self.latency_s} s"
            )


def utilities(
    quality_M: NDArray[np.float64],
    cost_usd_M: NDArray[np.float64],
    latency_s_M: NDArray[np.float64],
    routing: Routing,
    reference: Reference,
) -> NDArray[np.float64]:
    """Return quality minus weighted, normalised cost and latency (LatentRouter).

    Args:
        quality_M: Predicted quality, 0 to 1.
        cost_usd_M: Predicted cost in USD.
        latency_s_M: Predicted latency in seconds.
        routing: The request's weights.
        reference: The unit of each normalisation.
    """
    cost_weight = FLOOR_COST_WEIGHT if wants_cheapest(routing) else routing.cost_weight
    return np.asarray(
        quality_M
        - cost_weight * cost_usd_M / reference.cost_usd
        - routing.latency_weight * latency_s_M / reference.latency_s
    )


def wants_cheapest(routing: Routing) -> bool:
    """Return whether a request states a floor and no weight; utilities are then in cost alone."""
    has_weight = bool(routing.cost_weight or routing.latency_weight)
    return routing.max_quality_drop is not None and not has_weight
