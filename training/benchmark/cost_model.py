"""What a query will cost at each candidate, predicted from the costs of past ones.

Axis legend: N = queries, M = candidates, F = what a cost is predicted from.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from training.benchmark.metrics import CostBounds

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from training.benchmark.table import OutcomeTable

_MIN_PRICED = 20
"""Known costs from which a candidate's cost is predicted by query; with fewer it is their mean."""

_COST_BLOCK = "question"
"""Features that tell how long an answer will be; left out where the schema lacks them."""


class CostModel:
    """Predicts each candidate's cost of a query, from the costs of training rows alone.

    By candidate a ridge of log cost on log characters, images and question features. Predictions
    stay within the costs seen, and are scaled so that their mean is the mean seen: the mean of a
    logarithm underestimates. A candidate with few known costs, or free answers among them, is
    predicted at its mean; one without any at the mean of the others; where none is known, all
    are 0.
    """

    def __init__(self, train: OutcomeTable) -> None:
        """Fit on the training rows."""
        self._predictors: list[_CandidateCost | None] = []
        input_NF = _cost_input(train)
        means = []
        for cost_N in train.cost_usd_NM.T:
            known_N = np.isfinite(cost_N)
            means.append(cost_N[known_N].mean() if known_N.any() else np.nan)
            self._predictors.append(_CandidateCost.fit(input_NF[known_N], cost_N[known_N]))
        mean_M = np.array(means)
        known_M = np.isfinite(mean_M)
        self.mean_M = np.where(known_M, mean_M, mean_M[known_M].mean() if known_M.any() else 0.0)
        """Mean known cost of each candidate in the training rows, USD."""

    @property
    def bounds(self) -> CostBounds:
        """The least and the greatest mean cost above 0 (VL-RouterBench); NaN if there is none."""
        priced = self.mean_M[self.mean_M > 0]
        return CostBounds(*(priced.min(), priced.max()) if len(priced) else (math.nan, math.nan))

    def predicted(self, table: OutcomeTable) -> NDArray[np.float64]:
        """Return the cost of each query at each candidate in USD, (N, M), finite."""
        input_NF = _cost_input(table)
        return np.column_stack(
            [
                np.full(len(table), mean) if predictor is None else predictor.predict(input_NF)
                for predictor, mean in zip(self._predictors, self.mean_M, strict=True)
            ]
        )

    def realised(self, table: OutcomeTable) -> NDArray[np.float64]:
        """Return the recorded costs, and the candidate's mean where none was, (N, M)."""
        return np.where(np.isfinite(table.cost_usd_NM), table.cost_usd_NM, self.mean_M)


class _CandidateCost(NamedTuple):
    """One candidate's ridge of log cost."""

    ridge: Pipeline
    low: float
    high: float
    factor: float

    @classmethod
    def fit(
        cls, input_NF: NDArray[np.float64], cost_N: NDArray[np.float64]
    ) -> _CandidateCost | None:
        if len(cost_N) < _MIN_PRICED or cost_N.min() <= 0:
            return None
        ridge = make_pipeline(StandardScaler(), Ridge(alpha=1.0)).fit(input_NF, np.log(cost_N))
        unscaled = cls(ridge, np.log(cost_N.min()), np.log(cost_N.max()), 1.0)
        return unscaled._replace(factor=cost_N.mean() / unscaled.predict(input_NF).mean())

    def predict(self, input_NF: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.exp(np.clip(self.ridge.predict(input_NF), self.low, self.high)) * self.factor


def _cost_input(table: OutcomeTable) -> NDArray[np.float64]:
    rows = table.rows
    columns = [np.log1p(rows.num_chars_N)[:, None], rows.num_images_N[:, None].astype(float)]
    if _COST_BLOCK in table.schema.slices:
        columns.append(rows.features_NF[:, table.schema.slices[_COST_BLOCK]].astype(float))
    return np.concatenate(columns, axis=1)
