"""Step 2c, projection: wide feature vectors come in, short balanced ones go out.

Axis legend: N = queries, F = features, E = one block's features, K = its components,
D = projected features, B = blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from router.errors import ArtifactError, InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from router.features.schema import FeatureSchema

_CLIP = 10.0
"""Deviations from the mean beyond which a value counts no further: one picture of a kind never
seen in training must not swamp all else."""

_MIN_DEVIATION = 1e-6
_PREFIX = "components."


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """Standardise, keep the main components of wide blocks, give every block equal energy.

    Each block leaves with a mean squared length of 1 over the queries it was fitted on, so that
    1280 image features weigh no more than 3 of text density. In a wide block a row of zeros means
    that there was nothing to encode (no picture): it takes no part in the fit and stays zero.
    """

    schema: FeatureSchema
    """The layout it was fitted on; the only one it accepts."""

    num_components: int
    """Most components of a block; a block with more features than that is wide."""

    mean: NDArray[np.float32]
    """(F,), subtracted from each feature."""

    inverse_deviation: NDArray[np.float32]
    """(F,), multiplied with each centred feature; 0 for a feature that never varied."""

    components: Mapping[str, NDArray[np.float32]]
    """(K, E) orthonormal rows by name of each wide block; the others pass whole."""

    gain: NDArray[np.float32]
    """(B,), factor by block that makes energies equal, in the schema's order."""

    @classmethod
    def fit(
        cls, features_NF: NDArray[np.float32], schema: FeatureSchema, *, num_components: int = 64
    ) -> Projection:
        """Fit on the features of past queries.

        Args:
            features_NF: At least one row, finite.
            schema: Their layout.
            num_components: Most components of a block; a wider block is wide. Fewer if there are
                fewer queries: min(num_components, N - 1), and never less than 1.

        Raises:
            InvalidInputError: If the features do not fit the schema or are not finite.
        """
        _check(features_NF, schema)
        if len(features_NF) == 0 or num_components < 1 or not np.isfinite(features_NF).all():
            raise InvalidInputError("fit needs finite features, a row and a component at least")
        num_kept = min(num_components, max(1, len(features_NF) - 1))
        means_E, inverses_E, gains = [], [], []
        components: dict[str, NDArray[np.float32]] = {}
        for block in schema.blocks:
            block_NE = features_NF[:, schema.slices[block.name]]
            is_wide = block.dim > num_components
            if is_wide:
                block_NE = block_NE[block_NE.any(axis=1)]
            mean_E, inverse_E = _moments(block_NE)
            scaled_NE = _standardise(block_NE, mean_E, inverse_E)
            if is_wide:
                components[block.name] = _principal(scaled_NE, num_kept)
                scaled_NE = scaled_NE @ components[block.name].T
            means_E.append(mean_E)
            inverses_E.append(inverse_E)
            gains.append(_gain(scaled_NE))
        return cls(
            schema=schema,
            num_components=num_components,
            mean=np.concatenate(means_E),
            inverse_deviation=np.concatenate(inverses_E),
            components=components,
            gain=np.array(gains, dtype=np.float32),
        )

    @property
    def num_outputs(self) -> int:
        """D, the length of a projected vector."""
        return max(columns.stop for columns in self.output_slices.values())

    @property
    def output_slices(self) -> dict[str, slice]:
        """Where each block lies in a projected vector, by name."""
        widths = [
            len(self.components[block.name]) if block.name in self.components else block.dim
            for block in self.schema.blocks
        ]
        return {
            block.name: slice(end - width, end)
            for block, width, end in zip(
                self.schema.blocks, widths, accumulate(widths), strict=True
            )
        }

    def transform(self, features_NF: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return ``projected_ND``, finite for finite features; a row depends on no other row.

        Raises:
            InvalidInputError: If the features do not fit the schema.
        """
        _check(features_NF, self.schema)
        parts_NK = []
        for block, gain in zip(self.schema.blocks, self.gain, strict=True):
            where = self.schema.slices[block.name]
            block_NE = features_NF[:, where]
            part_NK = _standardise(block_NE, self.mean[where], self.inverse_deviation[where])
            if block.name in self.components:
                part_NK = part_NK @ self.components[block.name].T
                part_NK *= block_NE.any(axis=1, keepdims=True)
            parts_NK.append(part_NK * gain)
        return np.concatenate(parts_NK, axis=1).astype(np.float32, copy=False)

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return the arrays that ``from_arrays`` reads, ready for safetensors."""
        return {
            "schema_sha256": np.frombuffer(bytes.fromhex(self.schema.hash), dtype=np.uint8).copy(),
            "num_components": np.array([self.num_components], dtype=np.int64),
            "mean": self.mean,
            "inverse_deviation": self.inverse_deviation,
            "gain": self.gain,
            **{_PREFIX + name: array for name, array in self.components.items()},
        }

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, NDArray[np.generic]], schema: FeatureSchema
    ) -> Projection:
        """Read what ``to_arrays`` wrote.

        Raises:
            ArtifactError: If an array is missing, misshapen, not finite or of another schema.
        """
        try:
            if arrays["schema_sha256"].tobytes().hex() != schema.hash:
                raise ArtifactError("the projection was fitted on another feature schema")
            num_components = int(arrays["num_components"][0])
            return cls(
                schema=schema,
                num_components=num_components,
                mean=_array(arrays, "mean", schema.num_features),
                inverse_deviation=_array(arrays, "inverse_deviation", schema.num_features),
                gain=_array(arrays, "gain", len(schema.blocks)),
                components={
                    block.name: _array(arrays, _PREFIX + block.name, None, block.dim)
                    for block in schema.blocks
                    if block.dim > num_components
                },
            )
        except KeyError as error:
            raise ArtifactError(f"the projection lacks the array {error}") from error


def _array(
    arrays: Mapping[str, NDArray[np.generic]], name: str, *shape: int | None
) -> NDArray[np.float32]:
    """Return one array after checking its shape; None fits any length."""
    array = arrays[name].astype(np.float32)
    fits = array.ndim == len(shape) and all(
        want in (None, have) for want, have in zip(shape, array.shape, strict=True)
    )
    if not fits or not np.isfinite(array).all():
        raise ArtifactError(f"{name} of shape {array.shape} is not finite or not {shape}")
    return array


def _check(features_NF: NDArray[np.float32], schema: FeatureSchema) -> None:
    """Refuse features of another width."""
    if features_NF.ndim != 2 or features_NF.shape[1] != schema.num_features:  # noqa: PLR2004 - rows and columns
        raise InvalidInputError(
            f"features of shape {features_NF.shape} are not (N, {schema.num_features})"
        )


def _moments(block_NE: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return mean and inverse deviation; 0 and 0 for no rows, inverse 0 for a constant column."""
    if len(block_NE) == 0:
        zeros_E = np.zeros(block_NE.shape[1], dtype=np.float32)
        return zeros_E, zeros_E
    mean_E = block_NE.mean(axis=0, dtype=np.float64)
    deviation_E = block_NE.std(axis=0, dtype=np.float64)
    # Relative to the mean, because float32 features carry no more than seven digits.
    varies_E = deviation_E > _MIN_DEVIATION * np.maximum(1.0, np.abs(mean_E))
    inverse_E = np.where(varies_E, 1.0 / np.where(varies_E, deviation_E, 1.0), 0.0)
    return mean_E.astype(np.float32), inverse_E.astype(np.float32)


def _standardise(
    block_NE: NDArray[np.float32], mean_E: NDArray[np.float32], inverse_E: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the block in deviations from the mean, within the clip."""
    return np.clip((block_NE - mean_E) * inverse_E, -_CLIP, _CLIP)


def _principal(scaled_NE: NDArray[np.float32], num_kept: int) -> NDArray[np.float32]:
    """Return the ``num_kept`` main directions as rows, zero rows where the data has fewer.

    The larger side is folded away first: with more queries than features the eigenvectors of the
    E x E covariance are the same directions at a fraction of the cost. The largest loading of each
    row is positive, which fixes the sign that an SVD leaves open.
    """
    num_rows, dim = scaled_NE.shape
    components_KE = np.zeros((num_kept, dim), dtype=np.float32)
    if num_rows == 0:
        return components_KE
    wide_NE = scaled_NE.astype(np.float64) if num_rows <= dim else scaled_NE.T @ scaled_NE
    _, values, rows_E = np.linalg.svd(wide_NE.astype(np.float64), full_matrices=False)
    num_real = min(num_kept, int((values > values[0] * _MIN_DEVIATION).sum()))
    found_E = rows_E[:num_real]
    largest = np.abs(found_E).argmax(axis=1, keepdims=True)
    components_KE[:num_real] = found_E * np.sign(np.take_along_axis(found_E, largest, axis=1))
    return components_KE


def _gain(scaled_NE: NDArray[np.float32]) -> float:
    """Return the factor that brings the mean squared row length to 1; 1 for an empty block."""
    energy = float(np.square(scaled_NE, dtype=np.float64).sum()) / max(1, len(scaled_NE))
    return 1.0 / float(np.sqrt(energy)) if energy > _MIN_DEVIATION else 1.0
