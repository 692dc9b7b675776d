"""Step 8, read: rows of the outcome log with trusted and untrusted labels kept apart.

Axis legend: N = rows, M = candidates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from monitoring.label_precedence import LabelPrecedence
from router.errors import InvalidInputError
from training.data.outcome_rows import DEFAULT_PRECEDENCE, DEFAULT_SAMPLE, training_set_from_log

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

    from monitoring.label_precedence import GivenLabel
    from training.data.dataset import TrainingSet
    from training.data.log_sample import Sample

TRUSTED_CLASSES = ("gold", "grader")
"""A person who checked, and a program that knows the answer."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelledRows:
    """Rows with the label that counts, and both kinds of label apart."""

    rows: TrainingSet
    trusted_NM: NDArray[np.float64]
    """Trusted labels of observed entries; NaN where there is none."""

    untrusted_NM: NDArray[np.float64]
    """The others; NaN where there is none."""

    def __post_init__(self) -> None:
        """Refuse labels of other rows."""
        shape = self.rows.score_NM.shape
        if not self.trusted_NM.shape == self.untrusted_NM.shape == shape:
            raise InvalidInputError(
                f"labels must have shape {shape}, got {self.trusted_NM.shape} and "
                f"{self.untrusted_NM.shape}",
                "trusted_NM",
            )

    @classmethod
    def all_trusted(cls, rows: TrainingSet) -> LabelledRows:
        """Trust every label, as of a calibration set alone."""
        return cls(
            rows=rows,
            trusted_NM=rows.score_NM.astype(np.float64),
            untrusted_NM=np.full(rows.score_NM.shape, np.nan),
        )

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.rows)

    def subset(self, rows: ArrayLike) -> LabelledRows:
        """Return the chosen rows, by index or by mask."""
        index = np.asarray(rows)
        return LabelledRows(
            rows=self.rows.subset(index),
            trusted_NM=self.trusted_NM[index],
            untrusted_NM=self.untrusted_NM[index],
        )

    def split(self, *, held_out: float, seed: int) -> tuple[LabelledRows, LabelledRows]:
        """Split whole groups into rows to learn from and rows to prove on.

        Args:
            held_out: Share of the groups to prove on; above 0, below 1.
            seed: Of the shuffle.

        Raises:
            InvalidInputError: If the share is out of bounds.
        """
        if not 0 < held_out < 1:
            raise InvalidInputError(f"held_out must be above 0 and below 1, got {held_out}")
        groups = np.unique(self.rows.group_N)
        shuffled = np.random.default_rng(seed).permutation(groups)
        proven = shuffled[: max(round(held_out * len(groups)), 1)]
        is_held_out_N = np.isin(self.rows.group_N, proven)
        return self.subset(~is_held_out_N), self.subset(is_held_out_N)


def labelled_rows_from_log(
    root: str | Path,
    *,
    schema_hash: str,
    candidate_ids: Sequence[str],
    precedence: LabelPrecedence = DEFAULT_PRECEDENCE,
    trusted: Collection[str] = TRUSTED_CLASSES,
    sample: Sample = DEFAULT_SAMPLE,
) -> LabelledRows:
    """Read what `training_set_from_log` does, with the labels of each kind.

    Args:
        root: The outcome log.
        schema_hash: Of the features to read.
        candidate_ids: The columns.
        precedence: Which of several labels of one answer counts.
        trusted: Classes of sources that nobody outside can write as.
        sample: Which outcomes, and how many.

    Raises:
        InvalidInputError: If no outcome is left.
    """

    def read(order: LabelPrecedence) -> TrainingSet:
        return training_set_from_log(
            root,
            schema_hash=schema_hash,
            candidate_ids=candidate_ids,
            precedence=order,
            sample=sample,
        )

    both = (_OneKind(precedence.order, frozenset(trusted), is_trusted=t) for t in (True, False))
    rows, trusted_rows, untrusted_rows = map(read, (precedence, *both))
    return LabelledRows(
        rows=rows,
        trusted_NM=trusted_rows.score_NM.astype(np.float64),
        untrusted_NM=untrusted_rows.score_NM.astype(np.float64),
    )


@dataclass(frozen=True, slots=True)
class _OneKind(LabelPrecedence):
    """Labels of one kind of source; NaN where an answer has only the other's.

    The answers stay the same ones, so that rows read by either kind are in the same places.
    """

    trusted: frozenset[str] = frozenset()
    is_trusted: bool = True

    def choose(self, labels: Iterable[GivenLabel]) -> dict[str, float]:
        """Return a score, or NaN, for every answer with a label."""
        given = list(labels)
        own = [
            label
            for label in given
            if (label.source.partition(":")[0] in self.trusted) == self.is_trusted
        ]
        nothing = dict.fromkeys((label.decision_id for label in given), float("nan"))
        return nothing | LabelPrecedence.choose(self, own)
