"""What a rival is given and what it must give.

Axis legend: N = queries, D = projected features, M = candidates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from training.benchmark.table import OutcomeTable


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RivalRows:
    """Rows as every rival sees them: the same features, the same predicted cost."""

    projected_ND: NDArray[np.float32]
    """Features after the projection that was fitted on the training rows."""

    score_NM: NDArray[np.float64]
    """Quality, 0 to 1; NaN where not observed. Only the oracle may read it in ``quality``."""

    available_NM: NDArray[np.bool_]
    """Who may be chosen."""

    cost_usd_NM: NDArray[np.float64]
    """Cost as predicted from training rows, never the realised one; finite."""

    group_N: NDArray[np.int64]
    """Rows of one group belong together in every split."""

    table: OutcomeTable
    """The rows in full, for routers that bring their own features or projection."""


class FittedRival(Protocol):
    """A rival that has seen its training rows."""

    def quality(self, rows: RivalRows) -> NDArray[np.float64]:
        """Return predicted quality, (N, M): finite, any scale that ranks; larger is better.

        Where a rival is to be used with a cost weight its figures must be in units of quality.
        """
        ...


class Rival(Protocol):
    """A way of predicting which candidate answers best."""

    @property
    def name(self) -> str:
        """How tables call it."""
        ...

    def fit(self, train: RivalRows, validation: RivalRows, *, seed: int) -> FittedRival:
        """Learn from the training rows; settings are chosen on the validation rows.

        A rival may refit on both sets of rows once its settings are chosen.
        """
        ...
