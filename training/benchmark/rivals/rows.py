"""What rivals read off their rows. A score that was not observed is NaN.

Axis legend: N = queries, D = features, M = candidates.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from training.benchmark.rivals.rival import RivalRows


class Known(NamedTuple):
    """Features and scores to learn from."""

    feature_ND: NDArray[np.float32]
    score_NM: NDArray[np.float64]


def known(*parts: RivalRows) -> Known:
    """Return the projected features and scores of one or more sets of rows, in order."""
    return Known(
        np.concatenate([part.projected_ND for part in parts]),
        np.concatenate([part.score_NM for part in parts]),
    )


def subset(rows: RivalRows, index: ArrayLike) -> RivalRows:
    """Return the chosen rows, by index or by mask."""
    chosen = np.arange(len(rows.group_N))[np.asarray(index)]
    columns = {
        item.name: getattr(rows, item.name)[chosen]
        for item in dataclasses.fields(rows)
        if item.name != "table"
    }
    return dataclasses.replace(rows, table=rows.table.subset(chosen), **columns)


def candidate_means(score_NM: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each candidate's mean score, (M,).

    A candidate without a score has the mean of all scores; without any score it is 0.5.
    """
    observed_NM = np.isfinite(score_NM)
    overall = float(score_NM[observed_NM].mean()) if observed_NM.any() else 0.5
    total_M = np.where(observed_NM, score_NM, 0.0).sum(axis=0)
    count_M = observed_NM.sum(axis=0)
    mean_M: NDArray[np.float64] = np.where(count_M > 0, total_M / np.maximum(count_M, 1), overall)
    return mean_M


def squared_error(quality_NM: NDArray[np.float64], score_NM: NDArray[np.float64]) -> float:
    """Return the mean squared error over observed entries; infinite if there is none."""
    observed_NM = np.isfinite(score_NM)
    if not observed_NM.any():
        return float("inf")
    return float(((quality_NM - score_NM)[observed_NM] ** 2).mean())
