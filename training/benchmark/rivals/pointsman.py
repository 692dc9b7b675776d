"""Pointsman's own router as a rival; it brings its own projection and folds.

Axis legend: N = queries, M = candidates.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from training.fitting.fit import FitConfig, fit_router

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from router.artifact import RouterArtifact
    from training.benchmark.rivals.rival import FittedRival, Rival, RivalRows


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointsman:
    """The router that serves. Its settings come from folds, so it needs no validation rows."""

    name: str = "pointsman"
    config: FitConfig = dataclasses.field(default_factory=FitConfig)
    dropped_blocks: frozenset[str] = frozenset()
    """Feature blocks that are blanked, for the ablation of encoders."""

    def fit(self, train: RivalRows, validation: RivalRows, *, seed: int) -> FittedPointsman:
        """Learn from both sets of rows."""
        table = train.table
        artifact, _ = fit_router(
            table.rows.joined(validation.table.rows).masked_features(self._columns(train)),
            dataclasses.replace(self.config, seed=seed),
            schema=table.schema,
            candidates=table.candidates,
        )
        return FittedPointsman(artifact, self._columns(train))

    def _columns(self, rows: RivalRows) -> NDArray[np.bool_]:
        keeps_F = np.ones(rows.table.schema.num_features, dtype=bool)
        for name in self.dropped_blocks:
            keeps_F[rows.table.schema.slices[name]] = False
        return keeps_F


@dataclass(frozen=True, slots=True)
class FittedPointsman:
    """A trained artifact that predicts."""

    artifact: RouterArtifact
    keeps_F: NDArray[np.bool_]

    def quality(self, rows: RivalRows) -> NDArray[np.float64]:
        """Return expected quality."""
        return self.artifact.scorer().quality(
            np.where(self.keeps_F, rows.table.rows.features_NF, np.float32(0.0)),
            candidates=rows.table.candidates,
            profiles=self.artifact.profiles,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Blend:
    """The mean of two rivals' predictions."""

    name: str
    parts: tuple[tuple[float, Rival], ...]
    """Weight and rival; weights sum to 1."""

    def fit(self, train: RivalRows, validation: RivalRows, *, seed: int) -> FittedBlend:
        """Fit each part."""
        return FittedBlend(
            tuple((weight, r.fit(train, validation, seed=seed)) for weight, r in self.parts)
        )


@dataclass(frozen=True, slots=True)
class FittedBlend:
    """Parts that are fitted."""

    parts: tuple[tuple[float, FittedRival], ...]

    def quality(self, rows: RivalRows) -> NDArray[np.float64]:
        """Return the weighted mean of the parts' predictions."""
        return np.asarray(sum(weight * fitted.quality(rows) for weight, fitted in self.parts))
