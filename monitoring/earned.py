"""Step 7, read: what a router version earned, label by label, in the order in which they came."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from monitoring.label_precedence import GivenLabel, LabelPrecedence
from monitoring.log_reader import read_table
from monitoring.outcome import Status
from router.records import Policy

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date
    from pathlib import Path

    from numpy.typing import NDArray

COLUMNS = ("decision_id", "features", "candidate_ids", "is_available")


@dataclass(frozen=True, slots=True, eq=False)
class Earned:
    """One labelled answer of the router's own choice."""

    score: float
    features_F: NDArray[np.float32]
    available_ids: tuple[str, ...]
    """Who could have been chosen."""


def versions_served(root: str | Path, *, since: date | None = None) -> list[str]:
    """Return the router versions of the log, the one that decided last at the end.

    Args:
        root: The outcome log.
        since: Day, in UTC, before which no file is opened.
    """
    table = read_table(
        root,
        "outcomes",
        columns=("router_version", "time"),
        filters=pc.field("router_version") != "",
        since=since,
    )
    last = table.group_by("router_version").aggregate([("time", "max")]).sort_by("time_max")
    versions: list[str] = last["router_version"].to_pylist()
    return versions


def earned(
    root: str | Path,
    version: str,
    *,
    schema_hash: str,
    max_labels: int,
    from_start: bool = False,
    since: date | None = None,
) -> list[Earned]:
    """Return the labelled greedy answers of one version, by when they were first labelled.

    Greedy ones alone: the share that explores differs from day to day and says nothing of the
    version. Answers by another than the choice are left out, as everywhere.

    Args:
        root: The outcome log.
        version: Of the router.
        schema_hash: Of the features to read.
        max_labels: Most that are returned; the features of each lie in memory.
        from_start: Whether to return the earliest of them, as a sequential test must read them,
            or the latest.
        since: Day, in UTC, before which no file is opened.
    """
    scores = _scores(root, since)
    rows = _greedy(version, schema_hash)
    table = read_table(root, "outcomes", columns=("decision_id",), filters=rows, since=since)
    decided = set(table["decision_id"].to_pylist())
    ids = [name for name in scores if name in decided]
    wanted = ids[:max_labels] if from_start else ids[-max_labels:]
    rows &= pc.field("decision_id").isin(pa.array(wanted, pa.string()))
    found = read_table(root, "outcomes", columns=COLUMNS, filters=rows, since=since)
    by_id = {
        name: Earned(
            scores[name],
            np.asarray(features, dtype=np.float32),
            tuple(i for i, ok in zip(candidate_ids, is_available, strict=True) if ok),
        )
        for name, features, candidate_ids, is_available in zip(
            *_lists(found, COLUMNS), strict=True
        )
    }
    return [by_id[name] for name in wanted if name in by_id]


def _scores(root: str | Path, since: date | None) -> dict[str, float]:
    """Return the score that counts for each decision, by when it was first labelled.

    A corrected label keeps the place of the first.
    """
    table = read_table(root, "labels", columns=GivenLabel._fields, since=since)
    labels = [
        GivenLabel._make(row) for row in zip(*_lists(table, GivenLabel._fields), strict=True)
    ]
    labels.sort(key=lambda label: (label.time, label.decision_id))
    order = dict.fromkeys(label.decision_id for label in labels)
    scores = LabelPrecedence().choose(labels)
    return {name: scores[name] for name in order}


def _greedy(version: str, schema_hash: str) -> pc.Expression:
    return (
        (pc.field("router_version") == version)
        & (pc.field("feature_schema_hash") == schema_hash)
        & (pc.field("policy") == Policy.GREEDY.value)
        & (pc.field("status") == Status.OK.value)
        & (pc.field("answered_by") == pc.field("choice"))
    )


def _lists(table: pa.Table, names: Iterable[str]) -> list[list[object]]:
    return [table[name].to_pylist() for name in names]
