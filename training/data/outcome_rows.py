"""Step 8, read: from the outcome log and its labels to a training set.

Axis legend: N = rows, F = raw features, M = candidates.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from tenacity import retry, retry_if_exception_type, stop_after_attempt

from monitoring.label_precedence import GivenLabel, LabelPrecedence
from monitoring.log_reader import scan
from router.errors import InvalidInputError
from router.records import Policy
from training.data.dataset import TrainingSet
from training.data.log_sample import Labelled, Sample, draw_decisions, usable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

COLUMNS = (
    "decision_id",
    "query_sha256",
    "features",
    "num_chars",
    "num_images",
    "candidate_ids",
    "is_available",
    "choice",
    "answered_by",
    "propensity",
    "policy",
    "attempts",
    "time_to_first_token_s",
    "input_tokens",
    "output_tokens",
)

Row = dict[str, Any]
DEFAULT_PRECEDENCE = LabelPrecedence()
DEFAULT_SAMPLE = Sample()


@retry(retry=retry_if_exception_type(FileNotFoundError), stop=stop_after_attempt(3), reraise=True)
def training_set_from_log(
    root: str | Path,
    *,
    schema_hash: str,
    candidate_ids: Sequence[str],
    precedence: LabelPrecedence = DEFAULT_PRECEDENCE,
    sample: Sample = DEFAULT_SAMPLE,
) -> TrainingSet:
    """Return the labelled outcomes that a router can learn from.

    Pinned requests for one query become one full-information row: the caller asked each candidate,
    so nothing was chosen and the propensity is 1. A routed request becomes a row of its own with
    the logged propensity. What is left out is told in `draw_decisions`. If the log is compacted
    meanwhile, it is read again.

    Args:
        root: The outcome log.
        schema_hash: Of the features to read.
        candidate_ids: The columns; outcomes of other candidates are left out.
        precedence: Which of several labels of one answer counts.
        sample: Which outcomes, and how many.

    Raises:
        InvalidInputError: If no outcome is left.
    """
    labelled = Labelled.of(scan(root, "labels", ["decision_id"]))
    columns = {name: position for position, name in enumerate(candidate_ids)}
    drawn = draw_decisions(
        root, labelled, schema_hash=schema_hash, candidate_ids=columns, sample=sample
    )
    scores = latest_labels(root, precedence, decisions=drawn)
    since = sample.since.date() if sample.since else None
    batches = scan(root, "outcomes", COLUMNS, usable(schema_hash, sample), since=since)
    rows = _Rows(columns, num_rows=len(scores))
    for batch in batches:
        for row in _chosen(batch, scores):
            rows.add(row)
    return rows.training_set(
        f"the outcome log {root} holds no labelled outcome of feature schema {schema_hash[:12]}; "
        "calibrate first, or send labels to POST /v1/outcomes"
    )


def _chosen(batch: pa.RecordBatch, scores: dict[str, float]) -> Iterator[Row]:
    """Yield the rows of a batch that have a score, with it, and take it away: each comes once."""
    ids = batch.column("decision_id").to_pylist()
    batch = batch.filter(pa.array([name in scores for name in ids]))
    features = batch.column("features")
    features_A = features.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    width = len(features_A) // len(batch) if len(batch) else 0
    for i, row in enumerate(batch.drop_columns(["features"]).to_pylist()):
        score = scores.pop(row["decision_id"], None)
        if score is not None:
            row["features"] = features_A[i * width : (i + 1) * width]
            row["score"] = score
            yield row


def latest_labels(
    root: str | Path,
    precedence: LabelPrecedence = DEFAULT_PRECEDENCE,
    *,
    decisions: Collection[str] | None = None,
) -> dict[str, float]:
    """Return the score that counts for each decision, of the first class of sources the latest.

    Args:
        root: The outcome log.
        precedence: Of the sources.
        decisions: Those that matter; all when None.
    """
    names = GivenLabel._fields
    batches = scan(root, "labels", names)
    if decisions is not None:
        batches = (
            batch.filter(pa.array([n in decisions for n in batch.column(names[0]).to_pylist()]))
            for batch in batches
        )
    return precedence.choose(
        GivenLabel._make(values)
        for batch in batches
        for values in zip(*(batch.column(name).to_pylist() for name in names), strict=True)
    )


class _Rows:
    """Training rows under way, at most ``num_rows``, each laid out as it comes.

    The rows of pinned questions come last, in the order of their first answers.
    """

    def __init__(self, columns: dict[str, int], *, num_rows: int) -> None:
        """Start empty; memory is taken as rows come."""
        shape = (num_rows, len(columns))
        self._columns = columns
        self._features_NF = np.empty((num_rows, 0), dtype=np.float32)
        self._cells = {
            name: np.full(shape, np.nan, dtype=np.float32)
            for name in ("score", "input_tokens", "output_tokens", "latency_s", "ttft_s")
        }
        self._available_NM = np.zeros(shape, dtype=bool)
        self._propensity_NM = np.full(shape, np.nan)
        self._counts = {
            name: np.zeros(num_rows, dtype=np.int64)
            for name in ("num_chars", "num_images", "group")
        }
        self._groups: dict[str, int] = {}
        self._pinned: dict[str, list[Row]] = defaultdict(list)
        self._num_rows = 0

    def add(self, row: Row) -> None:
        """Take one outcome; its features may be a view, which is not kept."""
        if row["policy"] != Policy.PINNED:
            self._lay_out([row])
            return
        answers = self._pinned[row["query_sha256"]]
        features_F = row.pop("features")
        if not answers:
            row["features"] = features_F.copy()
        answers.append(row)

    def training_set(self, if_empty: str) -> TrainingSet:
        """Return what was taken.

        Raises:
            InvalidInputError: With the message given, if that is nothing.
        """
        for answers in self._pinned.values():
            self._lay_out(answers)
        if not self._num_rows:
            raise InvalidInputError(if_empty, "outcome_log")
        taken = slice(self._num_rows)
        columns: dict[str, Any] = {f"{name}_NM": cell_NM for name, cell_NM in self._cells.items()}
        columns |= {f"{name}_N": count_N for name, count_N in self._counts.items()}
        columns |= {
            "features_NF": self._features_NF,
            "available_NM": self._available_NM,
            "propensity_NM": self._propensity_NM,
        }
        return TrainingSet(
            candidate_ids=tuple(self._columns),
            **{name: column[taken] for name, column in columns.items()},
        )

    def _lay_out(self, answers: list[Row]) -> None:
        """Write the answers to one query as the next row."""
        n, first = self._num_rows, answers[0]
        if n == 0:
            shape = (len(self._features_NF), len(first["features"]))
            # Pages that no row is written to are never taken from the system.
            self._features_NF = np.empty(shape, dtype=np.float32)
        self._num_rows += 1
        self._features_NF[n] = first["features"]
        query = first["query_sha256"]
        self._counts["num_chars"][n] = first["num_chars"]
        self._counts["num_images"][n] = first["num_images"]
        self._counts["group"][n] = self._groups.setdefault(query, len(self._groups))
        for row in answers:
            m, attempt, cells = self._columns[row["answered_by"]], row["attempts"][-1], self._cells
            cells["score"][n, m] = row["score"]
            cells["input_tokens"][n, m] = _number(row["input_tokens"])
            cells["output_tokens"][n, m] = _number(row["output_tokens"])
            cells["latency_s"][n, m] = attempt["duration_s"]
            cells["ttft_s"][n, m] = _number(row["time_to_first_token_s"]) - attempt["started_s"]
            self._propensity_NM[n, m] = row["propensity"]
            self._available_NM[n, m] = True
            if row["policy"] != Policy.PINNED:
                _mark_available(self._available_NM[n], row, self._columns)


def _mark_available(available_M: np.ndarray, row: Row, columns: dict[str, int]) -> None:
    for name, is_available in zip(row["candidate_ids"], row["is_available"], strict=True):
        if is_available and name in columns:
            available_M[columns[name]] = True


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
