"""Step 3, scores: kinds of query, the soft clusters under which profiles are kept.

Kinds are found in the projected feature space without any label, so fitting them on training
rows leaks nothing. A profile names the kinds it was counted under by ``Kinds.hash``.

Axis legend: N = queries, D = projected components, K = kinds.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from router.errors import ArtifactError, InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

MIN_ROWS_PER_KIND = 10
"""A kind thinner than this tells noise; small sets get fewer kinds."""

NUM_RESTARTS = 3
NUM_ITERATIONS = 30
SOFTNESS = 0.25
"""Membership falls by e for each quarter of the usual squared distance to the own centre."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Kinds:
    """Soft clusters of queries."""

    centres_KD: NDArray[np.float32]
    """Cluster centres, at least one, in the projected space."""

    scale: float
    """Squared distance over which a membership falls by e; above 0."""

    def __post_init__(self) -> None:
        """Refuse centres that cannot divide a space."""
        if self.centres_KD.ndim != 2 or 0 in self.centres_KD.shape:  # noqa: PLR2004 - two axes
            raise InvalidInputError(
                f"centres must be a non-empty (K, D) array, got {self.centres_KD.shape}",
                "centres_KD",
            )
        if not np.isfinite(self.centres_KD).all() or not 0 < self.scale < np.inf:
            raise InvalidInputError("centres and scale must be finite, scale above 0", "scale")

    @property
    def num_kinds(self) -> int:
        """Return K."""
        return int(self.centres_KD.shape[0])

    @property
    def hash(self) -> str:
        """Return a hex digest that changes with any centre or the scale."""
        digest = hashlib.sha256(np.ascontiguousarray(self.centres_KD, dtype="<f4").tobytes())
        digest.update(repr((self.centres_KD.shape, float(self.scale))).encode())
        return digest.hexdigest()[:16]

    @classmethod
    def fit(
        cls, projected_ND: NDArray[np.floating], *, num_kinds: int = 16, seed: int = 0
    ) -> Kinds:
        """Find kinds by k-means (k-means++ starts, the best of three).

        Args:
            projected_ND: Projected features; at least one row, finite.
            num_kinds: Most kinds to make, 1 or more; small sets get one per ten rows.
            seed: Seed of the starts.

        Raises:
            InvalidInputError: If there is no row, or ``num_kinds`` is below 1.
        """
        points_ND = np.asarray(projected_ND, dtype=np.float64)
        if points_ND.ndim != 2 or not len(points_ND):  # noqa: PLR2004 - two axes
            raise InvalidInputError(
                f"kinds need (N, D) rows, got {points_ND.shape}", "projected_ND"
            )
        if num_kinds < 1:
            raise InvalidInputError(f"num_kinds must be 1 or more, got {num_kinds}", "num_kinds")
        rng = np.random.default_rng(seed)
        fewer = int(np.clip(len(points_ND) // MIN_ROWS_PER_KIND, 1, num_kinds))
        runs = [_lloyd(points_ND, _starts(points_ND, fewer, rng)) for _ in range(NUM_RESTARTS)]
        centres_KD, nearest_N = min(runs, key=lambda run: float(run[1].sum()))
        scale = max(SOFTNESS * float(nearest_N.mean()), 1e-6)
        return cls(centres_KD=centres_KD.astype(np.float32), scale=scale)

    def assign(self, projected_ND: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return memberships over K that sum to one for each query.

        Args:
            projected_ND: Projected features; D as when fitted.
        """
        distance_NK = _squared_distances(np.asarray(projected_ND, np.float64), self.centres_KD)
        nearer_NK = distance_NK - distance_NK.min(axis=1, keepdims=True)
        weight_NK = np.exp(-nearer_NK / self.scale)
        membership_NK: NDArray[np.float32] = (
            weight_NK / weight_NK.sum(axis=1, keepdims=True)
        ).astype(np.float32)
        return membership_NK

    def to_arrays(self) -> dict[str, NDArray[np.float32] | NDArray[np.float64]]:
        """Return what `from_arrays` needs, ready for safetensors."""
        return {
            "centres_KD": np.ascontiguousarray(self.centres_KD),
            "scale": np.array([self.scale], dtype=np.float64),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> Kinds:
        """Rebuild kinds from `to_arrays`.

        Raises:
            ArtifactError: If an array is missing, extra, or of the wrong shape.
        """
        if set(arrays) != {"centres_KD", "scale"} or arrays["scale"].shape != (1,):
            raise ArtifactError(f"kinds hold centres_KD and scale, got {sorted(arrays)}")
        try:
            centres_KD = arrays["centres_KD"].astype(np.float32)
            return cls(centres_KD=centres_KD, scale=float(arrays["scale"].item()))
        except InvalidInputError as error:
            raise ArtifactError(f"kinds cannot be used: {error}") from error


def _squared_distances(
    points_ND: NDArray[np.float64], centres_KD: NDArray[np.floating]
) -> NDArray[np.float64]:
    # The expanded square keeps memory at N*K; the clip removes its rounding below zero.
    centres_KD = centres_KD.astype(np.float64)
    distance_NK = (
        (points_ND**2).sum(axis=1)[:, None]
        - 2.0 * points_ND @ centres_KD.T
        + (centres_KD**2).sum(axis=1)[None, :]
    )
    clipped_NK: NDArray[np.float64] = np.maximum(distance_NK, 0.0)
    return clipped_NK


def _starts(
    points_ND: NDArray[np.float64], num_kinds: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Draw k-means++ starts: each new centre with a chance growing with its distance squared."""
    centres = [points_ND[rng.integers(len(points_ND))]]
    nearest_N = _squared_distances(points_ND, np.stack(centres))[:, 0]
    while len(centres) < num_kinds:
        total = nearest_N.sum()
        if total <= 0:  # fewer distinct points than kinds
            break
        centres.append(points_ND[rng.choice(len(points_ND), p=nearest_N / total)])
        nearest_N = np.minimum(nearest_N, _squared_distances(points_ND, centres[-1][None])[:, 0])
    return np.stack(centres)


def _lloyd(
    points_ND: NDArray[np.float64], centres_KD: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return centres and each point's squared distance to its own; an emptied centre stays."""
    distance_NK = _squared_distances(points_ND, centres_KD)
    for _ in range(NUM_ITERATIONS):
        own_NK = np.eye(len(centres_KD))[distance_NK.argmin(axis=1)]
        count_K = own_NK.sum(axis=0)
        moved_KD = own_NK.T @ points_ND / np.maximum(count_K, 1.0)[:, None]
        moved_KD = np.where(count_K[:, None] > 0, moved_KD, centres_KD)
        done = np.allclose(moved_KD, centres_KD)
        centres_KD, distance_NK = moved_KD, _squared_distances(points_ND, moved_KD)
        if done:
            break
    return centres_KD, distance_NK.min(axis=1)
