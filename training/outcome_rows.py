"""Step 8, read: from the outcome log and its labels to a training set.

Axis legend: N = rows, F = raw features, M = candidates.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from monitoring.outcome import Status
from monitoring.outcome_log import read_table
from router.errors import InvalidInputError
from router.records import Policy
from training.dataset import TrainingSet

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
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


def training_set_from_log(
    root: Path, *, schema_hash: str, candidate_ids: Sequence[str]
) -> TrainingSet:
    """Return every labelled outcome that a router can learn from.

    Pinned requests for one query become one full-information row: the caller asked each candidate,
    so nothing was chosen and the propensity is 1. A routed request becomes a row of its own with
    the logged propensity. Left out: outcomes without a label or of another feature schema, and
    those answered by another than the choice, whose propensity is not known.

    Args:
        root: The outcome log.
        schema_hash: Of the features to read.
        candidate_ids: The columns; outcomes of other candidates are left out.

    Raises:
        InvalidInputError: If no outcome is left.
    """
    scores = latest_labels(root)
    table = read_table(
        root,
        "outcomes",
        columns=COLUMNS,
        filters=(pc.field("feature_schema_hash") == schema_hash)
        & (pc.field("status") == Status.OK.value),
    )
    columns = {name: position for position, name in enumerate(candidate_ids)}
    usable = (
        row | {"score": scores[row["decision_id"]]}
        for row in table.to_pylist()
        if row["decision_id"] in scores
        and row["answered_by"] == row["choice"]
        and row["answered_by"] in columns
        and row["policy"] != Policy.FALLBACK
    )
    gathered = list(_gather(usable))
    if not gathered:
        raise InvalidInputError(
            f"the outcome log {root} holds no labelled outcome of feature schema "
            f"{schema_hash[:12]}; calibrate first, or send labels to POST /v1/outcomes",
            "outcome_log",
        )
    return _lay_out(gathered, columns)


def latest_labels(root: Path) -> dict[str, float]:
    """Return the latest score of each decision; a repeated or later label replaces an earlier."""
    table = read_table(root, "labels", columns=("decision_id", "time", "score")).sort_by("time")
    return dict(zip(table["decision_id"].to_pylist(), table["score"].to_pylist(), strict=True))


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
        features_NF=np.array([row["features"] for row in first], dtype=np.float32),
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
