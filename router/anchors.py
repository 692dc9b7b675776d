"""Step 3, scores: how alike a query is to past ones, and the basis that quality is a sum over.

Anchors are queries of the training set. Likeness is a Gaussian kernel of the distance in words, in
pictures and in both; the basis is what kernel principal component analysis makes of it (Nyström:
Williams and Seeger 2001). No label is looked at, so fitting on training rows leaks nothing.

Axis legend: N = queries, D = projected features, A = anchors, R = basis functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from router.errors import ArtifactError, InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from router.features.project import Projection

TEXT_BLOCKS = frozenset({"text", "question"})
"""Feature blocks that describe words; all others describe pictures."""

MIN_EIGENVALUE = 1e-6
"""Directions of the anchors' likeness below this share of the largest are rounding noise."""

_ARRAYS = ("points_AD", "num_blocks_2", "is_text_D", "basis_AR", "centre_R")


@dataclass(frozen=True, kw_only=True, eq=False)
class Anchors:
    """Past queries that new ones are compared with."""

    points_AD: NDArray[np.float32]
    """Projected features of the anchors; finite."""

    is_text_D: NDArray[np.bool_]
    """Columns that describe words."""

    num_blocks_2: tuple[int, int]
    """Blocks of words and of pictures. A block's mean squared length is 1, so that two unrelated
    queries lie about twice this number apart."""

    basis_AR: NDArray[np.float32]
    """From likenesses to basis functions."""

    centre_R: NDArray[np.float32]
    """Mean of each basis function over the training queries; taken off."""

    def __post_init__(self) -> None:
        """Refuse parts that do not fit each other."""
        num_anchors, num_features = self.points_AD.shape
        if (
            self.is_text_D.shape != (num_features,)
            or self.basis_AR.shape != (num_anchors, len(self.centre_R))
            or not num_anchors
        ):
            raise InvalidInputError(
                f"anchors {self.points_AD.shape}, basis {self.basis_AR.shape} and centre "
                f"{self.centre_R.shape} do not fit each other",
                "anchors",
            )

    @classmethod
    def fit(
        cls,
        projected_ND: NDArray[np.float32],
        projection: Projection,
        *,
        num_anchors: int,
        seed: int,
    ) -> Anchors:
        """Draw anchors from the rows and find the basis.

        Args:
            projected_ND: At least one row.
            projection: What projected them.
            num_anchors: Most anchors; never more than rows.
            seed: Of the draw.
        """
        is_text_D = np.zeros(projected_ND.shape[1], dtype=bool)
        num_text = 0
        for name, columns in projection.output_slices.items():
            is_text_D[columns] = name in TEXT_BLOCKS
            num_text += name in TEXT_BLOCKS
        rng = np.random.default_rng(seed)
        chosen = rng.choice(len(projected_ND), min(num_anchors, len(projected_ND)), replace=False)
        points_AD = np.ascontiguousarray(projected_ND[np.sort(chosen)])
        empty = cls(
            points_AD=points_AD,
            is_text_D=is_text_D,
            num_blocks_2=(num_text, len(projection.output_slices) - num_text),
            basis_AR=np.eye(len(points_AD), dtype=np.float32),
            centre_R=np.zeros(len(points_AD), dtype=np.float32),
        )
        whiten_AR = _whitening(empty.likeness(points_AD))
        return empty._rotated(whiten_AR, empty.likeness(projected_ND) @ whiten_AR)

    def _rotated(self, whiten_AR: NDArray[np.float32], white_NR: NDArray[np.float32]) -> Anchors:
        """Return the anchors with the principal components of the rows as their basis."""
        centre_R = white_NR.mean(axis=0)
        centred_NR = white_NR - centre_R
        _, rotation_RR = np.linalg.eigh((centred_NR.T @ centred_NR).astype(np.float64))
        rotation_RR = rotation_RR[:, ::-1].astype(np.float32)
        return Anchors(
            points_AD=self.points_AD,
            is_text_D=self.is_text_D,
            num_blocks_2=self.num_blocks_2,
            basis_AR=whiten_AR @ rotation_RR,
            centre_R=centre_R @ rotation_RR,
        )

    @property
    def num_functions(self) -> int:
        """R, with the constant that comes first in ``basis``."""
        return len(self.centre_R) + 1

    def likeness(self, projected_ND: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return how alike each query is to each anchor, 0 to 1, (N, A)."""
        num_text, num_pictures = self.num_blocks_2
        apart_NA = [
            (_squared_distance(projected_ND[:, columns], *side), num_blocks)
            for num_blocks, (columns, *side) in zip(self.num_blocks_2, self._sides, strict=True)
            if num_blocks
        ]
        if len(apart_NA) == 1:
            return np.exp(apart_NA[0][0] / np.float32(-apart_NA[0][1]))
        (words_NA, _), (pictures_NA, _) = apart_NA
        likeness_NA = np.exp((words_NA + pictures_NA) / np.float32(-num_text - num_pictures))
        likeness_NA += np.exp(words_NA / np.float32(-num_text))
        likeness_NA += np.exp(pictures_NA / np.float32(-num_pictures))
        return likeness_NA / np.float32(3.0)

    def basis(self, projected_ND: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the basis functions of each query, the constant 1 first, (N, R)."""
        values_NR = self.likeness(projected_ND) @ self.basis_AR - self.centre_R
        ones_N1 = np.ones((len(values_NR), 1), dtype=np.float32)
        return np.concatenate([ones_N1, values_NR], axis=1)

    def fold(
        self, token_RM: NDArray[np.floating]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return weights on likenesses (A, M) and constants (M,) that give the same sums.

        One product instead of two for each query: ``likeness @ weights + constants`` equals
        ``basis @ token``. In double precision, because the weights are large and cancel: in single
        precision a score moved by 1.4e-6 with its candidate's place in the pool.
        """
        rest_RM = token_RM[1:].astype(np.float64)
        centre_R = self.centre_R.astype(np.float64)
        return self.basis_AR.astype(np.float64) @ rest_RM, token_RM[0] - centre_R @ rest_RM

    @cached_property
    def _sides(
        self,
    ) -> tuple[tuple[NDArray[np.intp], NDArray[np.float32], NDArray[np.float32]], ...]:
        """Columns, points and squared lengths of the words' side and of the pictures'."""
        sides = []
        for is_side_D in (self.is_text_D, ~self.is_text_D):
            columns = np.flatnonzero(is_side_D)
            points_DA = np.ascontiguousarray(self.points_AD[:, columns].T)
            sides.append((columns, points_DA, np.square(points_DA).sum(axis=0)))
        return tuple(sides)

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return what `from_arrays` needs, ready for safetensors."""
        return {
            "points_AD": self.points_AD,
            "num_blocks_2": np.array(self.num_blocks_2, dtype=np.int64),
            "is_text_D": self.is_text_D.astype(np.uint8),
            "basis_AR": np.ascontiguousarray(self.basis_AR),
            "centre_R": self.centre_R,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> Anchors:
        """Rebuild anchors from `to_arrays`.

        Raises:
            ArtifactError: If an array is missing or of the wrong shape.
        """
        try:
            points_AD, blocks_2, is_text_D, basis_AR, centre_R = (arrays[n] for n in _ARRAYS)
            num_text, num_pictures = blocks_2.astype(int).tolist()
            return cls(
                points_AD=points_AD.astype(np.float32),
                num_blocks_2=(num_text, num_pictures),
                is_text_D=is_text_D.astype(bool),
                basis_AR=basis_AR.astype(np.float32),
                centre_R=centre_R.astype(np.float32),
            )
        except (KeyError, ValueError) as error:
            raise ArtifactError(f"anchors cannot be used: {error}") from error


def _squared_distance(
    side_ND: NDArray[np.float32],
    points_DA: NDArray[np.float32],
    length_A: NDArray[np.float32],
) -> NDArray[np.float32]:
    # The expanded square keeps memory at N*A; the clip removes its rounding below zero.
    apart_NA = side_ND @ points_DA
    apart_NA *= np.float32(-2.0)
    apart_NA += length_A
    apart_NA += np.square(side_ND).sum(axis=1, keepdims=True)
    return np.maximum(apart_NA, np.float32(0.0), out=apart_NA)


def _whitening(likeness_AA: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the inverse square root of the anchors' likeness, without its null directions."""
    value_A, vector_AA = np.linalg.eigh(likeness_AA.astype(np.float64))
    kept = value_A > MIN_EIGENVALUE * value_A[-1]
    return (vector_AA[:, kept] / np.sqrt(value_A[kept])).astype(np.float32)
