"""One pool's recorded outcomes, and how they are cut for a measurement.

Axis legend: N = queries, M = candidates.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from router.errors import InvalidInputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from router.candidate import Candidate
    from router.features.schema import FeatureSchema
    from training.data.dataset import TrainingSet

TRAIN_SHARE = 0.7
VALIDATION_SHARE = 0.1
"""The rest is test: 70/10/20, whole groups."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OutcomeTable:
    """What every candidate of a pool answered, as far as it was recorded."""

    name: str
    """The pool."""

    rows: TrainingSet
    """Raw features, scores (NaN where not recorded) and groups. In a row only candidates with a
    recorded score count as available: nobody knows what the others would have earned."""

    schema: FeatureSchema
    """Layout of the raw features."""

    candidates: tuple[Candidate, ...]
    """The M columns, with prices where known."""

    cost_usd_NM: NDArray[np.float64]
    """What each answer cost, as recorded or estimated by the source; NaN where unknown."""

    query_ids: tuple[str, ...]
    """Unique names of the rows."""

    datasets: tuple[str, ...]
    """Where each row comes from."""

    def __post_init__(self) -> None:
        """Refuse columns of other lengths."""
        lengths = {len(self.rows), len(self.query_ids), len(self.datasets), len(self.cost_usd_NM)}
        ids = tuple(candidate.id for candidate in self.candidates)
        if len(lengths) != 1 or ids != self.rows.candidate_ids:
            raise InvalidInputError(
                f"a table's columns must agree: {sorted(lengths)} rows, {ids} against "
                f"{self.rows.candidate_ids}",
                "rows",
            )

    def __len__(self) -> int:
        """Return the number of queries."""
        return len(self.rows)

    def subset(self, rows: ArrayLike) -> OutcomeTable:
        """Return the chosen rows, by index or by mask."""
        index = np.arange(len(self))[np.asarray(rows)]
        return dataclasses.replace(
            self,
            rows=self.rows.subset(index),
            cost_usd_NM=self.cost_usd_NM[index],
            query_ids=tuple(self.query_ids[i] for i in index),
            datasets=tuple(self.datasets[i] for i in index),
        )

    def split(self, seed: int) -> Split:
        """Cut whole groups into 70 % training, 10 % validation and 20 % test."""
        groups = np.unique(self.rows.group_N)
        shuffled = np.random.default_rng(seed).permutation(groups)
        first = round(TRAIN_SHARE * len(groups))
        second = first + round(VALIDATION_SHARE * len(groups))
        parts = (shuffled[:first], shuffled[first:second], shuffled[second:])
        train, validation, test = (self.subset(np.isin(self.rows.group_N, p)) for p in parts)
        return Split(train, validation, test)


class Split(NamedTuple):
    """Rows to learn from, to choose settings on, and to be judged by."""

    train: OutcomeTable
    validation: OutcomeTable
    test: OutcomeTable
