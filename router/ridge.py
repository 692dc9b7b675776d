"""Step 3, scores: ridge regressions of many candidates on one basis, each on what it was seen on.

Axis legend: N = rows, R = basis functions, M = candidates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_STEPS = 300
TOLERANCE = 1e-4
"""Residual over right-hand side at which a candidate's system counts as solved."""

TINY = 1e-30


def solve_ridge(
    basis_NR: NDArray[np.float32],
    target_NM: NDArray[np.float32],
    weight_NM: NDArray[np.float32],
    penalty_R: NDArray[np.float32],
    *,
    start_RM: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Minimise Σ w (y - b·t)² + Σ penalty t² for every candidate, (R, M).

    Conjugate gradients, all candidates at once, preconditioned by each system's diagonal (Shewchuk
    1994). Time and memory are linear in the rows. On a basis of principal components a candidate
    that saw every row has a diagonal system, solved in one or two steps; gaps cost some more.

    Args:
        basis_NR: Finite.
        target_NM: Anything where the weight is 0.
        weight_NM: 0 or more; 0 where a candidate was not seen.
        penalty_R: Above 0.
        start_RM: A guess, such as the solution for a nearby penalty.
    """
    basis_RN, penalty_R1 = basis_NR.T, penalty_R[:, None]

    def apply(token_RM: NDArray[np.float32]) -> NDArray[np.float32]:
        return basis_RN @ (weight_NM * (basis_NR @ token_RM)) + penalty_R1 * token_RM

    right_RM = basis_RN @ np.where(weight_NM > 0, weight_NM * target_NM, np.float32(0.0))
    diagonal_RM = np.square(basis_RN) @ weight_NM + penalty_R1
    token_RM = np.zeros_like(right_RM) if start_RM is None else start_RM.copy()
    residual_RM = right_RM - apply(token_RM) if start_RM is not None else right_RM.copy()
    step_RM = ready_RM = residual_RM / diagonal_RM
    energy_M = (residual_RM * ready_RM).sum(axis=0)
    enough_M = TOLERANCE * np.sqrt(np.square(right_RM).sum(axis=0)) + TINY
    for _ in range(MAX_STEPS):
        if (np.sqrt(np.square(residual_RM).sum(axis=0)) <= enough_M).all():
            break
        applied_RM = apply(step_RM)
        length_M = energy_M / np.maximum((step_RM * applied_RM).sum(axis=0), TINY)
        token_RM += length_M * step_RM
        residual_RM -= length_M * applied_RM
        ready_RM = residual_RM / diagonal_RM
        before_M, energy_M = energy_M, (residual_RM * ready_RM).sum(axis=0)
        step_RM = ready_RM + energy_M / np.maximum(before_M, TINY) * step_RM
    return token_RM
