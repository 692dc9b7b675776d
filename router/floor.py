"""Step 5, before the choice: how far below the best a choice may lie, with a stated confidence.

Conformal risk control (Angelopoulos, Bates, Fisch, Lei and Schuster 2022): on held-out queries the
cheapest candidate within a slack of the best prediction is compared with the best one. The largest
slack whose share of queries that lose more than a drop stays under 1 - confidence is safe for the
next query of the same stream.

Axis legend: N = queries, M = candidates, S = slacks, L = drops.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from router.errors import ArtifactError, InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

SLACKS_S = np.round(np.linspace(0.0, 1.0, 101), 2)
"""Differences of predicted quality that are tried."""

DROPS_L = np.round(np.linspace(0.0, 0.95, 20), 2)
"""Losses of quality that are told apart; a request's drop counts as the next smaller one."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Floor:
    """What each slack cost on queries that were not trained on."""

    risk_SL: NDArray[np.float32]
    """Share of queries that lost more than the drop; rises with the slack."""

    num_queries: int
    """Queries behind it; 0 or more."""

    @classmethod
    def calibrate(
        cls,
        quality_NM: NDArray[np.float64],
        cost_NM: NDArray[np.float64],
        score_NM: NDArray[np.float64],
        available_NM: NDArray[np.bool_],
    ) -> Floor:
        """Count losses on queries whose every available candidate was observed.

        Args:
            quality_NM: Predicted by a router that did not see the row.
            cost_NM: Predicted cost.
            score_NM: Observed quality; finite where available.
            available_NM: Who could be chosen; at least one in each row.
        """
        rows = np.arange(len(quality_NM))
        quality_NM = np.where(available_NM, quality_NM, -np.inf)
        best_N = quality_NM.argmax(axis=1)
        peak_N = quality_NM.max(axis=1, initial=0.0)
        risk_SL = np.zeros((len(SLACKS_S), len(DROPS_L)), dtype=np.float32)
        worst_N = np.full(len(rows), -np.inf)
        for s, slack in enumerate(SLACKS_S):
            within_NM = quality_NM >= peak_N[:, None] - slack
            taken_N = np.where(within_NM, cost_NM, np.inf).argmin(axis=1) if slack else best_N
            lost_N = score_NM[rows, best_N] - score_NM[rows, taken_N]
            # The guarantee asks for a loss that rises with the slack, query by query.
            worst_N = np.maximum(worst_N, lost_N)
            risk_SL[s] = (worst_N[:, None] > DROPS_L + 1e-9).sum(axis=0) / max(len(rows), 1)
        return cls(risk_SL=risk_SL, num_queries=len(rows))

    def slack(self, max_quality_drop: float, confidence: float) -> float:
        """Return the largest safe slack; 0, the best prediction alone, where none is.

        Args:
            max_quality_drop: Quality that a query may lose, 0 to 1.
            confidence: Least probability that it loses no more; above 0, below 1.
        """
        n = self.num_queries
        drop = int(np.searchsorted(DROPS_L, max_quality_drop + 1e-9, side="right")) - 1
        bound_S = (n * self.risk_SL[:, drop].astype(np.float64) + 1.0) / (n + 1.0)
        safe = np.flatnonzero(bound_S <= 1.0 - confidence)
        return float(SLACKS_S[safe[-1]]) if len(safe) else 0.0

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return what `from_arrays` needs, ready for safetensors."""
        return {
            "risk_SL": self.risk_SL,
            "num_queries": np.array([self.num_queries], dtype=np.int64),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> Floor:
        """Rebuild a floor from `to_arrays`.

        Raises:
            ArtifactError: If an array is missing or of the wrong shape.
        """
        try:
            risk_SL, number = arrays["risk_SL"].astype(np.float32), arrays["num_queries"]
        except KeyError as error:
            raise ArtifactError(f"the floor lacks the array {error}") from error
        if risk_SL.shape != (len(SLACKS_S), len(DROPS_L)) or number.shape != (1,):
            raise ArtifactError(f"the floor's table has shape {risk_SL.shape}")
        return cls(risk_SL=risk_SL, num_queries=int(number[0]))


def check_floor(max_quality_drop: float | None, confidence: float) -> None:
    """Refuse a floor that no share of queries can be held against.

    Raises:
        InvalidInputError: If a value is out of its bounds.
    """
    if max_quality_drop is not None and not 0 <= max_quality_drop <= 1:
        raise InvalidInputError(
            f"max_quality_drop must be 0 to 1, got {max_quality_drop}",
            "routing.max_quality_drop",
        )
    if not 0 < confidence < 1:
        raise InvalidInputError(
            f"confidence must lie between 0 and 1, got {confidence}", "routing.confidence"
        )
