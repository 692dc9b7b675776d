"""From a source's list of answers to one table of queries by candidates.

Axis legend: N = queries, O = outcomes, F = raw features, M = candidates.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from router.candidate import Candidate, Price
from router.errors import InvalidInputError
from training.benchmark.table import OutcomeTable
from training.data.dataset import TrainingSet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from router.features.schema import FeatureSchema
    from training.benchmark.source_table import SourceTable

UNKNOWN_CONTEXT_WINDOW = 2**20
"""Sources do not record it; so large that it never masks a candidate."""

FEWEST_CANDIDATES = 2
"""With fewer there is nothing to choose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which candidates and which rows of a source make a table."""

    candidates: tuple[str, ...] = ()
    """The columns, in this order; empty for every model with ``min_outcomes``, by name."""

    datasets: tuple[str, ...] = ()
    """Only queries of these data sets; empty for all."""

    complete: bool = False
    """Only rows in which every candidate was observed."""

    min_observed: int = 2
    """Fewest observed candidates of a row; at least 1. In a row with one there is no choice."""

    min_outcomes: int = 1
    """Fewest queries, of the data sets above, that a model must have answered; at least 1."""

    def __post_init__(self) -> None:
        """Refuse bounds that select nothing meaningful."""
        for name in ("min_observed", "min_outcomes"):
            if getattr(self, name) < 1:
                raise InvalidInputError(f"{name} must be 1 or more", name)


def to_outcome_table(
    source: SourceTable,
    features_NF: NDArray[np.float32],
    schema: FeatureSchema,
    selection: Selection,
    *,
    name: str = "",
) -> OutcomeTable:
    """Lay a source out as queries by candidates.

    Several answers of one candidate to one query are averaged. A cost that was not recorded is
    worked out where both token counts and the candidate's own price are known.

    Args:
        source: Queries and answers.
        features_NF: Raw features of all queries of the source, in its order.
        schema: Their layout.
        selection: What to keep.
        name: Of the table; the source's if empty.

    Raises:
        InvalidInputError: If the features do not fit, a candidate is not there, or fewer than two
            candidates or no row are left.
    """
    if features_NF.shape != (len(source), schema.num_features):
        raise InvalidInputError(
            f"features of shape {features_NF.shape} are not ({len(source)}, "
            f"{schema.num_features})",
            "features",
        )
    in_datasets_N = _in_datasets(source, selection.datasets)
    candidate_ids = _candidate_ids(source, selection, in_datasets_N)
    cells = _Cells(source, candidate_ids)
    score_NM = cells.mean(source.outcomes.score_O)
    index = np.flatnonzero(in_datasets_N & _enough_observed(score_NM, selection))
    if len(index) == 0:
        raise InvalidInputError(
            f"{source.name}: no query was answered by enough of {', '.join(candidate_ids)}; "
            "choose other candidates or allow gaps",
            "candidates",
        )
    return OutcomeTable(
        name=name or source.name,
        rows=_rows(source, cells, features_NF, score_NM, index),
        schema=schema,
        candidates=_candidates(source, candidate_ids, index),
        cost_usd_NM=cells.cost_usd()[index],
        query_ids=tuple(source.query_ids[i] for i in index),
        datasets=tuple(source.datasets[i] for i in index),
    )


def unpriced(source: SourceTable, candidate_ids: Sequence[str]) -> tuple[str, ...]:
    """Return the candidates of a table whose price the source does not know."""
    return tuple(name for name in candidate_ids if name not in source.prices)


class _Cells:
    """Where each answer lies in the (N, M) table."""

    def __init__(self, source: SourceTable, candidate_ids: Sequence[str]) -> None:
        self._source = source
        self.candidate_ids = tuple(candidate_ids)
        self._shape = (len(source), len(candidate_ids))
        columns = {name: position for position, name in enumerate(candidate_ids)}
        column_of_model = np.array([columns.get(name, -1) for name in source.models], dtype=int)
        column_O = column_of_model[source.outcomes.model_O]
        self._is_kept_O = column_O >= 0
        self._cell_O = source.outcomes.query_O * len(candidate_ids) + column_O

    def mean(self, value_O: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the mean of each cell's recorded values, NaN where there is none."""
        keep_O = self._is_kept_O & np.isfinite(value_O)
        cells, size = self._cell_O[keep_O], self._shape[0] * self._shape[1]
        sums = np.bincount(cells, weights=value_O[keep_O], minlength=size)
        counts = np.bincount(cells, minlength=size)
        means = np.divide(sums, counts, out=np.full(size, np.nan), where=counts > 0)
        return means.reshape(self._shape)

    def cost_usd(self) -> NDArray[np.float64]:
        """Return the cost of each cell: as recorded, else from tokens and the own price."""
        outcomes = self._source.outcomes
        recorded_NM = self.mean(outcomes.cost_usd_O)
        prices = [self._source.prices.get(name) for name in self.candidate_ids]
        input_M = np.array([p.input_usd_per_mtok if p else np.nan for p in prices])
        output_M = np.array([p.output_usd_per_mtok if p else np.nan for p in prices])
        worked_out_NM = (
            self.mean(outcomes.input_tokens_O) * input_M
            + self.mean(outcomes.output_tokens_O) * output_M
        ) / 1e6
        return np.where(np.isfinite(recorded_NM), recorded_NM, worked_out_NM)


def _in_datasets(source: SourceTable, datasets: Sequence[str]) -> NDArray[np.bool_]:
    """Return which queries belong to the data sets, all of them if none is named."""
    if not datasets:
        return np.ones(len(source), dtype=bool)
    wanted = set(datasets)
    if missing := wanted - set(source.datasets):
        raise InvalidInputError(
            f"{source.name} holds no query of {', '.join(sorted(missing))}; check the folder",
            "datasets",
        )
    return np.array([dataset in wanted for dataset in source.datasets])


def _candidate_ids(
    source: SourceTable, selection: Selection, in_datasets_N: NDArray[np.bool_]
) -> tuple[str, ...]:
    """Return the columns of the table."""
    num_answered = _num_answered(source, in_datasets_N)
    if missing := [name for name in selection.candidates if not num_answered.get(name)]:
        raise InvalidInputError(
            f"{source.name} holds no answer of {', '.join(missing)}; "
            f"it has {', '.join(sorted(num_answered))}",
            "candidates",
        )
    enough = sorted(n for n, count in num_answered.items() if count >= selection.min_outcomes)
    chosen = selection.candidates or tuple(enough)
    if len(chosen) < FEWEST_CANDIDATES:
        raise InvalidInputError(
            f"{source.name}: a router needs two candidates to choose from, found {chosen}",
            "candidates",
        )
    return chosen


def _num_answered(source: SourceTable, in_datasets_N: NDArray[np.bool_]) -> dict[str, int]:
    """Return how many different queries each model answered."""
    outcomes = source.outcomes
    keep_O = in_datasets_N[outcomes.query_O]
    pairs = outcomes.query_O[keep_O] * len(source.models) + outcomes.model_O[keep_O]
    counts = np.bincount(np.unique(pairs) % len(source.models), minlength=len(source.models))
    return {name: int(n) for name, n in zip(source.models, counts, strict=True) if n}


def _enough_observed(score_NM: NDArray[np.float64], selection: Selection) -> NDArray[np.bool_]:
    """Return the rows with enough recorded candidates."""
    observed_NM = np.isfinite(score_NM)
    if selection.complete:
        return np.asarray(observed_NM.all(axis=1))
    return np.asarray(observed_NM.sum(axis=1) >= selection.min_observed)


def _rows(
    source: SourceTable,
    cells: _Cells,
    features_NF: NDArray[np.float32],
    score_NM: NDArray[np.float64],
    index: NDArray[np.int64],
) -> TrainingSet:
    """Return the kept rows as a training set."""
    observed_NM = np.isfinite(score_NM)
    outcomes = source.outcomes
    keys = [_group_key(source, i) for i in index]
    return TrainingSet(
        features_NF=features_NF[index],
        candidate_ids=cells.candidate_ids,
        score_NM=score_NM[index].astype(np.float32),
        available_NM=observed_NM[index],
        propensity_NM=np.where(observed_NM, 1.0, np.nan)[index],
        input_tokens_NM=cells.mean(outcomes.input_tokens_O)[index].astype(np.float32),
        output_tokens_NM=cells.mean(outcomes.output_tokens_O)[index].astype(np.float32),
        latency_s_NM=cells.mean(outcomes.latency_s_O)[index].astype(np.float32),
        ttft_s_NM=np.full((len(index), score_NM.shape[1]), np.nan, dtype=np.float32),
        num_chars_N=np.array([len(source.questions[i]) for i in index], dtype=np.int64),
        num_images_N=np.array([len(source.images[i]) for i in index], dtype=np.int64),
        group_N=np.unique(keys, return_inverse=True)[1].astype(np.int64),
    )


def _group_key(source: SourceTable, i: int) -> str:
    """Return what the rows of one group share."""
    group = source.groups[i]
    return f"{source.datasets[i]}|{source.query_ids[i] if group is None else group}"


def _candidates(
    source: SourceTable, candidate_ids: Sequence[str], index: NDArray[np.int64]
) -> tuple[Candidate, ...]:
    """Return the columns with prices; who has none gets the median of the others, or 0."""
    known = [source.prices[name] for name in candidate_ids if name in source.prices]
    middle = Price(
        input_usd_per_mtok=median(p.input_usd_per_mtok for p in known) if known else 0.0,
        output_usd_per_mtok=median(p.output_usd_per_mtok for p in known) if known else 0.0,
    )
    max_images = max(1, *(len(source.images[i]) for i in index))
    return tuple(
        Candidate(
            id=name,
            price=source.prices.get(name, middle),
            max_images=max_images,
            context_window=UNKNOWN_CONTEXT_WINDOW,
        )
        for name in candidate_ids
    )
