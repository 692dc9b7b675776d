"""Step 8, signs: how much was labelled since a time, and how far the queries have moved.

Reads a few narrow columns, and features of a bounded sample.
"""

from __future__ import annotations

import hashlib
import heapq
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc

from monitoring.log_reader import scan
from router.records import Policy
from training.jobs.triggers import MIN_DRIFT_ROWS, feature_drift

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

MAX_DRIFT_ROWS = 2000
"""Queries of either side: 14 MB of 1,700 features."""

REFERENCE_DAYS = 7
"""Of the queries before a run, so that each hour and day of the week is among them."""


def num_labels_since(root: str | Path, since: datetime | None) -> int:
    """Return how many labels were given after a time; all if None.

    Raises:
        FileNotFoundError: If the log was compacted meanwhile; read again.
    """
    filters = None if since is None else pc.field("time") > since
    first_day = None if since is None else since.date()
    batches = scan(root, "labels", ("time",), filters, since=first_day)
    return sum(batch.num_rows for batch in batches)


def drift_since(root: str | Path, since: datetime) -> float | None:
    """Return the drift between the queries of the week before a time and those after it.

    Pinned queries are left out: whoever calibrates asks what no user does.

    Returns:
        None if there are too few queries on either side.
    """
    start = since - timedelta(days=REFERENCE_DAYS)
    wanted = (pc.field("time") > start) & (pc.field("policy") != Policy.PINNED.value)
    before, after = _Sample(), _Sample()
    schema_hash: str | None = None
    narrow = ("decision_id", "time", "feature_schema_hash")
    for batch in scan(root, "outcomes", narrow, wanted, since=start.date()):
        for row in batch.to_pylist():
            side = after if row["time"] > since else before
            side.offer(row["decision_id"], row["feature_schema_hash"])
            if side is after:
                schema_hash = row["feature_schema_hash"]
    if schema_hash is None:
        return None
    ids_before, ids_after = before.ids(schema_hash), after.ids(schema_hash)
    if min(len(ids_before), len(ids_after)) < MIN_DRIFT_ROWS:
        return None
    return feature_drift(
        *(_features(root, ids, start) for ids in (ids_before, ids_after)),
    )


class _Sample:
    """Of each feature schema, the decisions whose hash is least: drawn alike at every look."""

    def __init__(self) -> None:
        self._heaps: dict[str, list[tuple[int, str]]] = {}

    def offer(self, decision_id: str, schema_hash: str) -> None:
        digest = hashlib.blake2b(decision_id.encode(), digest_size=8).digest()
        item = (-int.from_bytes(digest, "big"), decision_id)
        heap = self._heaps.setdefault(schema_hash, [])
        if len(heap) < MAX_DRIFT_ROWS:
            heapq.heappush(heap, item)
        else:
            heapq.heappushpop(heap, item)

    def ids(self, schema_hash: str) -> list[str]:
        return [decision_id for _, decision_id in self._heaps.get(schema_hash, ())]


def _features(root: str | Path, ids: list[str], start: datetime) -> NDArray[np.float32]:
    """Return the features of these decisions, in no order."""
    wanted = pc.field("decision_id").isin(ids)
    batches = scan(root, "outcomes", ("features",), wanted, since=start.date())
    return np.concatenate(
        [np.stack(batch["features"].to_numpy(zero_copy_only=False)) for batch in batches]
    )
