"""Step 8, read: from the outcome log and its labels to a training set.

Axis legend: N = rows, F = raw features, M = candidates.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from monitoring.label_precedence import GivenLabel, LabelPrecedence
from monitoring.log_reader import read_table, scan
from router.errors import InvalidInputError
from router.records import Policy
from training.dataset import TrainingSet
from training.log_sample import Sample, draw_decisions, usable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
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
    the logged propensity. What is left out is told in `draw_decisions`.

    Args:
        root: The outcome log.
        schema_hash: Of the features to read.
        candidate_ids: The columns; outcomes of other candidates are left out.
        precedence: Which of several labels of one answer counts.
        sample: Which outcomes, and how many.

    Raises:
        InvalidInputError: If no outcome is left.
    """
    scores = latest_labels(root, precedence)
    columns = {name: position for position, name in enumerate(candidate_ids)}
    drawn = draw_decisions(
        root, scores, schema_hash=schema_hash, candidate_ids=columns, sample=sample
    )
    since = sample.since.date() if sample.since else None
    batches = scan(root, "outcomes", COLUMNS, usable(schema_hash, sample), since=since)
    chosen = (_chosen(batch, drawn, scores) for batch in batches)
    gathered = list(_gather(row for rows in chosen for row in rows))
    if not gathered:
        raise InvalidInputError(
            f"the outcome log {root} holds no labelled outcome of feature schema "
            f"{schema_hash[:12]}; calibrate first, or send labels to POST /v1/outcomes",
            "outcome_log",
        )
    return _lay_out(gathered, columns)


def _chosen(
    batch: pa.RecordBatch, drawn: Collection[str], scores: Mapping[str, float]
) -> Iterator[Row]:
    """Yield the drawn rows of a batch with their score; features as one array each."""
    is_drawn = [name in drawn for name in batch.column("decision_id").to_pylist()]
    batch = batch.filter(pa.array(is_drawn))
    features = batch.column("features")
    features_A = features.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    width = len(features_A) // len(batch) if len(batch) else 0
    narrow = batch.drop_columns(["features"]).to_pylist()
    for i, row in enumerate(narrow):
        # A copy: a view would keep the whole batch alive.
        row["features"] = features_A[i * width : (i + 1) * width].copy()
        row["score"] = scores[row["decision_id"]]
        yield row


def latest_labels(
    root: str | Path, precedence: LabelPrecedence = DEFAULT_PRECEDENCE
) -> dict[str, float]:
    """Return the score that counts for each decision, of the first class of sources the latest."""
    names = GivenLabel._fields
    table = read_table(root, "labels", columns=names)
    columns = (table[name].to_pylist() for name in names)
    return precedence.choose(map(GivenLabel._make, zip(*columns, strict=True)))


def _gather(rows: Iterable[Row]) -> Iterable[list[Row]]:
    """Yield the outcomes that make up one training row each."""
    pinned: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row["policy"] == Policy.PINNED:
            pinned[row["query_sha256"]].append(row)
        else:
            yield [row]
    yield from pinned.values()


def _lay_out(gathered: list[list[Row]], columns: dict[str, int]) -> TrainingSet:
    shape = (len(gathered), len(columns))
    cells = {
        name: np.full(shape, np.nan, dtype=np.float32)
        for name in ("score", "input_tokens", "output_tokens", "latency_s", "ttft_s")
    }
    available_NM = np.zeros(shape, dtype=bool)
    propensity_NM = np.full(shape, np.nan)
    groups: dict[str, int] = {}
    for n, rows in enumerate(gathered):
        groups.setdefault(rows[0]["query_sha256"], len(groups))
        for row in rows:
            m = columns[row["answered_by"]]
            attempt = row["attempts"][-1]
            cells["score"][n, m] = row["score"]
            cells["input_tokens"][n, m] = _number(row["input_tokens"])
            cells["output_tokens"][n, m] = _number(row["output_tokens"])
            cells["latency_s"][n, m] = attempt["duration_s"]
            cells["ttft_s"][n, m] = _number(row["time_to_first_token_s"]) - attempt["started_s"]
            propensity_NM[n, m] = row["propensity"]
            available_NM[n, m] = True
            if row["policy"] != Policy.PINNED:
                _mark_available(available_NM[n], row, columns)
    first = [rows[0] for rows in gathered]
    return TrainingSet(
        features_NF=np.stack([row["features"] for row in first]),
        candidate_ids=tuple(columns),
        score_NM=cells["score"],
        available_NM=available_NM,
        propensity_NM=propensity_NM,
        input_tokens_NM=cells["input_tokens"],
        output_tokens_NM=cells["output_tokens"],
        latency_s_NM=cells["latency_s"],
        ttft_s_NM=cells["ttft_s"],
        num_chars_N=np.array([row["num_chars"] for row in first], dtype=np.int64),
        num_images_N=np.array([row["num_images"] for row in first], dtype=np.int64),
        group_N=np.array([groups[row["query_sha256"]] for row in first], dtype=np.int64),
    )


def _mark_available(available_M: np.ndarray, row: Row, columns: dict[str, int]) -> None:
    for name, is_available in zip(row["candidate_ids"], row["is_available"], strict=True):
        if is_available and name in columns:
            available_M[columns[name]] = True


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
