"""Recorded outcomes as every source brings them, before features are computed.

Axis legend: N = queries, O = outcomes.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from router.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

    from router.candidate import Price

    Report = Callable[[str], None]
    """Told what a reader of the terminal should know, one line at a time."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcomes:
    """One row per recorded answer; a query and a model may meet more than once."""

    query_O: NDArray[np.int64]
    """Which query was answered, by position."""

    model_O: NDArray[np.int64]
    """Which model answered, by position."""

    score_O: NDArray[np.float64]
    """Quality, 0 to 1."""

    input_tokens_O: NDArray[np.float64]
    """Prompt tokens as counted; NaN where not recorded."""

    output_tokens_O: NDArray[np.float64]
    """Reply tokens as counted; NaN where not recorded."""

    cost_usd_O: NDArray[np.float64]
    """As billed or estimated by the source; NaN where unknown."""

    latency_s_O: NDArray[np.float64]
    """Seconds to the whole answer; NaN where not recorded."""

    def __post_init__(self) -> None:
        """Refuse columns of other lengths and scores out of bounds."""
        lengths = {len(getattr(self, item.name)) for item in dataclasses.fields(self)}
        if len(lengths) != 1:
            raise InvalidInputError(f"outcome columns differ in length: {sorted(lengths)}")
        if not ((self.score_O >= 0) & (self.score_O <= 1)).all():
            raise InvalidInputError("every score must lie in 0 to 1", "score")

    def __len__(self) -> int:
        """Return the number of answers."""
        return len(self.query_O)

    def subset(self, rows: ArrayLike) -> Outcomes:
        """Return the chosen answers, by index or by mask."""
        index = np.asarray(rows)
        columns = {item.name: getattr(self, item.name)[index] for item in dataclasses.fields(self)}
        return Outcomes(**columns)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SourceTable:
    """Queries and answers of one source; what every reader returns."""

    name: str
    """What reports call it."""

    query_ids: tuple[str, ...]
    """Unique."""

    questions: tuple[str, ...]
    """The text that a model was given; empty if there was none."""

    images: tuple[tuple[Path, ...], ...]
    """Existing files, in the order in which a model saw them."""

    datasets: tuple[str, ...]
    """Where each query comes from."""

    groups: tuple[str | None, ...]
    """Queries of one data set and group never lie on both sides of a split; None stands alone."""

    models: tuple[str, ...]
    """Unique."""

    outcomes: Outcomes
    """Who answered what, and how well."""

    prices: Mapping[str, Price] = field(default_factory=dict)
    """By model; a model without an entry has no known price."""

    notes: tuple[str, ...] = ()
    """What a reader of the results should know of how the source was read."""

    def __post_init__(self) -> None:
        """Refuse columns that contradict each other."""
        columns = (self.query_ids, self.questions, self.images, self.datasets, self.groups)
        if len({len(column) for column in columns}) != 1:
            raise InvalidInputError(f"query columns differ in length: {[len(c) for c in columns]}")
        for name in ("query_ids", "models"):
            if repeated := first_repeated(getattr(self, name)):
                raise InvalidInputError(
                    f"{name} must be unique; {repeated!r} is there twice", name
                )
        for name, size in (("query_O", len(self.query_ids)), ("model_O", len(self.models))):
            index_O = getattr(self.outcomes, name)
            if not ((index_O >= 0) & (index_O < size)).all():
                raise InvalidInputError(f"{name} must lie in 0 to {size - 1}", name)

    def __len__(self) -> int:
        """Return the number of queries."""
        return len(self.query_ids)


def first_repeated(names: tuple[str, ...]) -> str | None:
    """Return the first name that came before, None if all are unique."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None
