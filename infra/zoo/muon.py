"""Muon: momentum whose update of each matrix is made orthogonal (Jordan et al., 2024).

Matrices of one shape are made orthogonal together, which on one thread is much quicker than one
by one. https://kellerjordan.github.io/posts/muon/
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

COEFFICIENTS: Final = (3.4445, -4.7750, 2.0315)
NUM_ITERATIONS: Final = 5


def orthogonal(matrices: Tensor) -> Tensor:
    """Return matrices with the same singular vectors and singular values near one.

    Args:
        matrices: (count, rows, columns).

    Returns:
        The same shape, by five quintic Newton-Schulz iterations in bfloat16.
    """
    a, b, c = COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.bfloat16()
    x = x.mT if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(NUM_ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """Nesterov momentum with orthogonal updates; for two-dimensional inner weights only."""

    def __init__(
        self, parameters: Iterable[Tensor], *, rate: float, momentum: float = 0.95
    ) -> None:
        """Group the parameters by shape."""
        super().__init__(list(parameters), {"lr": rate, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # noqa: ANN401 - torch's signature
        """Update every matrix once; takes no closure."""
        if closure is not None:
            raise ValueError("Muon takes no closure")
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[parameter.shape].append(parameter)
            for shape, parameters in by_shape.items():
                scale = group["lr"] * max(1.0, shape[0] / shape[1]) ** 0.5
                gradients = [
                    self._momentum(parameter, group["momentum"]) for parameter in parameters
                ]
                for parameter, update in zip(
                    parameters, orthogonal(torch.stack(gradients)), strict=True
                ):
                    parameter.sub_(update, alpha=scale)

    def _momentum(self, parameter: Tensor, momentum: float) -> Tensor:
        gradient = parameter.grad
        assert gradient is not None  # noqa: S101 - for the type checker
        buffer: Tensor = self.state[parameter].setdefault("buffer", torch.zeros_like(gradient))
        buffer.lerp_(gradient, 1 - momentum)
        return gradient.lerp(buffer, momentum)
