"""A made-up outcome log of realistic width and any length, written as serving lays it out.

Axis legend: N = rows of a day, F = raw features, M = candidates.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from monitoring.outcome import LABEL_SCHEMA, OUTCOME_SCHEMA, SCHEMA_VERSION, Status
from monitoring.segment import Origin, segment_bytes
from monitoring.segment_store import open_store, segment_key
from router.records import Policy, Refusal

CANDIDATES = ("reader", "charter", "scene", "generalist")
NUM_DAYS = 90
LAST_DAY = datetime(2026, 3, 1, tzinfo=UTC)
EXPLORE_SHARE = 0.1
MASKED_SHARE = 0.1
LABELLED_SHARE = 0.9
CORRECTED_SHARE = 0.1
"""Labelled rows whose label of a user is followed by one of a grader."""

NUM_PINNED = 300
"""Queries that were asked of every candidate besides, at most one in twenty of the rows."""

PART_ROWS = 8192
"""Rows of a segment: 55 MB of features."""


def write_log(root: str, num_rows: int, *, num_features: int, schema_hash: str) -> int:
    """Write outcomes over ninety days, with their labels; return the bytes on disk.

    A candidate answers well where one feature is high. Most requests take the one that is thought
    best, some explore, some candidates are away; a few questions were asked of everybody.

    Args:
        root: An empty log.
        num_rows: Outcomes.
        num_features: F.
        schema_hash: Of the features.
    """
    store, rng = open_store(root), np.random.default_rng(0)
    num_bytes = part = 0
    bounds = np.linspace(0, num_rows, NUM_DAYS + 1).astype(int)
    num_pinned = min(NUM_PINNED, num_rows // 20 // len(CANDIDATES)) * len(CANDIDATES)
    for day, (first, last) in enumerate(pairwise(bounds.tolist())):
        time = LAST_DAY - timedelta(days=NUM_DAYS - 1 - day)
        for start in range(first, last, PART_ROWS):
            count = min(PART_ROWS, last - start)
            rows = _Rows(rng, time, start, count, num_pinned, num_features)
            tables = {"outcomes": rows.outcomes(schema_hash), "labels": rows.labels()}
            for table, made in tables.items():
                data = segment_bytes(made, Origin(digest=f"{part}"))
                key = segment_key(table, f"{time.date()}", f"made-{part:08d}")
                store.put_new(key, data)
                num_bytes += len(data)
            part += 1
    return num_bytes


class _Rows:
    """The outcomes of part of a day, the first ``num_pinned`` of the log pinned."""

    def __init__(
        self,
        rng: np.random.Generator,
        time: datetime,
        start: int,
        count: int,
        num_pinned: int,
        num_features: int,
    ) -> None:
        num_candidates = len(CANDIDATES)
        number_N = np.arange(start, start + count)
        self._time, self._rng = time, rng
        self._number_N = number_N
        self._is_pinned_N = number_N < num_pinned
        # A pinned question is asked of the candidates one after the other.
        self._query_N = np.where(self._is_pinned_N, number_N // num_candidates, number_N)
        self._features_NF = rng.standard_normal((count, num_features), np.float32)
        for row in np.flatnonzero(self._is_pinned_N):
            own = np.random.default_rng(int(self._query_N[row]))
            self._features_NF[row] = own.standard_normal(num_features, np.float32)
        good_NM = 1 / (1 + np.exp(-2 * self._features_NF[:, :num_candidates]))
        available_NM = rng.random((count, num_candidates)) >= MASKED_SHARE
        available_NM[:, -1] = True
        available_NM[self._is_pinned_N] = True
        self._available_NM = available_NM
        best_N = np.where(available_NM, good_NM, -1.0).argmax(axis=1)
        num_free_N = available_NM.sum(axis=1)
        explores_N = rng.random(count) < EXPLORE_SHARE
        drawn_N = np.where(available_NM, rng.random(good_NM.shape), -1.0).argmax(axis=1)
        choice_N = np.where(explores_N, drawn_N, best_N)
        self._choice_N = np.where(self._is_pinned_N, number_N % num_candidates, choice_N)
        chance_N = EXPLORE_SHARE / num_free_N + (1 - EXPLORE_SHARE) * (choice_N == best_N)
        self._propensity_N = np.where(self._is_pinned_N, 1.0, chance_N)
        self._policy_N = np.where(
            self._is_pinned_N,
            Policy.PINNED.value,
            np.where(explores_N, Policy.EXPLORE.value, Policy.GREEDY.value),
        )
        self._is_right_N = rng.random(count) < good_NM[np.arange(count), self._choice_N]

    def outcomes(self, schema_hash: str) -> pa.Table:
        """Return the outcome rows."""
        count = len(self._number_N)
        names_N = np.array(CANDIDATES)[self._choice_N]
        refusals = [
            [None if free else Refusal.NO_REPLICA.value for free in row]
            for row in self._available_NM.tolist()
        ]
        features = pa.array(self._features_NF.ravel())
        offsets_N = pa.array(np.arange(count + 1, dtype=np.int32) * self._features_NF.shape[1])
        columns: dict[str, Any] = {
            "schema_version": [SCHEMA_VERSION] * count,
            "decision_id": self._ids(),
            "time": self._times(),
            "router_version": ["12"] * count,
            "feature_schema_hash": [schema_hash] * count,
            "features": pa.ListArray.from_arrays(offsets_N, features),
            "query_sha256": [_sha256(int(query)) for query in self._query_N],
            "num_chars": self._rng.integers(20, 400, count, dtype=np.int32),
            "num_images": self._rng.integers(0, 2, count).astype(np.int16),
            "requested_model": ["auto"] * count,
            "cost_weight": np.zeros(count, dtype=np.float32),
            "latency_weight": np.zeros(count, dtype=np.float32),
            "candidate_ids": [list(CANDIDATES)] * count,
            "is_available": self._available_NM.tolist(),
            "refusals": refusals,
            "pool_age_s": np.full(count, 0.25, dtype=np.float32),
            "choice": names_N,
            "propensity": self._propensity_N,
            "policy": self._policy_N,
            "seed": self._number_N,
            "attempts": [
                [{"candidate_id": name, "started_s": 0.01, "duration_s": 0.5, "error": None}]
                for name in names_N.tolist()
            ],
            "answered_by": names_N,
            "status": [Status.OK.value] * count,
            "latency_s": np.full(count, 0.5, dtype=np.float32),
            "time_to_first_token_s": np.full(count, 0.1, dtype=np.float32),
            "input_tokens": self._rng.integers(60, 400, count, dtype=np.int32),
            "output_tokens": self._rng.integers(1, 60, count, dtype=np.int32),
            "cost_usd": np.full(count, 3e-4),
        }
        numbers = ("quality_means", "quality_stds", "costs_usd", "latencies_s", "utilities")
        columns |= {name: [[0.5] * len(CANDIDATES)] * count for name in numbers}
        return _table(columns, OUTCOME_SCHEMA, count)

    def labels(self) -> pa.Table:
        """Return a user's label of most rows, and a grader's of some of them."""
        count = len(self._number_N)
        labelled = np.flatnonzero(
            (self._rng.random(count) < LABELLED_SHARE) | self._is_pinned_N
        ).tolist()
        corrected = [i for i in labelled if self._rng.random() < CORRECTED_SHARE]
        ids, times = self._ids(), self._times()
        rows = [*labelled, *corrected]
        is_right = self._is_right_N.tolist()
        columns: dict[str, Any] = {
            "schema_version": [SCHEMA_VERSION] * len(rows),
            "decision_id": [ids[i] for i in rows],
            "time": [times[i] for i in rows],
            "score": [float(is_right[i]) for i in rows],
            "source": ["user"] * len(labelled) + ["grader:exact"] * len(corrected),
            "grader_version": ["1"] * len(rows),
        }
        return _table(columns, LABEL_SCHEMA, len(rows))

    def _ids(self) -> list[str]:
        return [f"dec_{_sha256(int(number))[:24]}" for number in self._number_N]

    def _times(self) -> list[datetime]:
        step = timedelta(hours=24) / max(len(self._number_N), 1)
        return [self._time + i * step for i in range(len(self._number_N))]


def _sha256(number: int) -> str:
    return hashlib.sha256(b"%d" % number).hexdigest()


def _table(columns: dict[str, Any], schema: pa.Schema, count: int) -> pa.Table:
    """Return the columns as a table, nulls where one is not given."""
    arrays = [
        pa.nulls(count, field.type)
        if field.name not in columns
        else columns[field.name]
        if isinstance(columns[field.name], pa.Array)
        else pa.array(columns[field.name], field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)
