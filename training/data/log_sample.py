"""Step 8, read: which outcomes of the log a training sees, however long the log is.

A first pass over a few narrow columns draws the rows; features are read for those alone. Memory
is bounded by the number of rows drawn, plus 8 bytes for each label of the log.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from monitoring.log_reader import scan
from monitoring.outcome import Status
from router.errors import InvalidInputError
from router.records import Policy

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from pathlib import Path

    import pyarrow.dataset as ds
    from numpy.typing import NDArray

PROOF_SHARE = 0.15
"""Share of all queries that no training ever sees, so that every version can be proven on them."""

NARROW = ("decision_id", "query_sha256", "time", "choice", "answered_by", "policy")


class Part(StrEnum):
    """Which queries; a query belongs to one part for good, by its hash."""

    LEARN = "learn"
    PROVE = "prove"
    ALL = "all"

    def holds(self, query_sha256: str) -> bool:
        """Return whether a query belongs to the part."""
        if self is Part.ALL:
            return True
        is_proof = int(query_sha256[:8] or "0", 16) < PROOF_SHARE * 2**32
        return is_proof == (self is Part.PROVE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Which outcomes are drawn."""

    part: Part = Part.ALL
    max_rows: int = 40_000
    """Most training rows; a query that was asked of every candidate is one row. 1 or more."""

    half_life_days: float = 30.0
    """Age at which a routed outcome is half as likely to be drawn where there are too many, so
    that old ones are replayed, but rarer. Rows of pinned questions, as calibration asks them, do
    not age. Above 0."""

    since: datetime | None = None
    """Outcomes before it are left out; aware of its time zone."""

    until: datetime | None = None
    """Outcomes after it are left out: what a training that is resumed saw the first time."""

    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse a sample of nothing."""
        if self.max_rows < 1 or not self.half_life_days > 0:
            raise InvalidInputError(
                f"max_rows must be 1 or more and half_life_days above 0, got {self.max_rows} and "
                f"{self.half_life_days}",
                "max_rows",
            )


class Labelled:
    """Which decisions have a label, in 8 bytes each.

    Two ids of one hash are taken for each other: of a billion labels, one in 37 such logs has a
    pair. Whoever reads the label finds none and leaves the row out.
    """

    def __init__(self, hash_N: NDArray[np.int64]) -> None:
        """Take the hashes of the ids, sorted."""
        self._hash_N = hash_N

    @classmethod
    def of(cls, batches: Iterable[pa.RecordBatch]) -> Labelled:
        """Read the ids of a table of labels."""
        parts = [_hashes(batch.column("decision_id").to_pylist()) for batch in batches]
        return cls(np.unique(np.concatenate(parts)) if parts else np.empty(0, dtype=np.int64))

    def among(self, ids: Sequence[str]) -> NDArray[np.bool_]:
        """Return which of some decisions have a label."""
        if not len(self._hash_N):
            return np.zeros(len(ids), dtype=bool)
        hash_N = _hashes(ids)
        place_N = np.searchsorted(self._hash_N, hash_N)
        found_N: NDArray[np.bool_] = self._hash_N.take(place_N, mode="clip") == hash_N
        return found_N


def _hashes(ids: Sequence[str]) -> NDArray[np.int64]:
    return np.fromiter(map(hash, ids), dtype=np.int64, count=len(ids))


def draw_decisions(
    root: str | Path,
    labelled: Labelled,
    *,
    schema_hash: str,
    candidate_ids: Collection[str],
    sample: Sample,
) -> set[str]:
    """Return the ids of the outcomes to learn from.

    Left out: outcomes without a label or of another feature schema, and those answered by another
    than the choice, whose propensity is not known.

    Args:
        root: The outcome log.
        labelled: The decisions that have a label.
        schema_hash: Of the features.
        candidate_ids: Outcomes of other candidates are left out.
        sample: Which.
    """
    now = sample.until or datetime.now(UTC)
    drawn = _Drawn(sample)
    since = sample.since.date() if sample.since else None
    for batch in scan(root, "outcomes", NARROW, usable(schema_hash, sample), since=since):
        for row in _candidates(batch, labelled, candidate_ids, sample.part):
            drawn.offer(row, now)
    return drawn.decisions()


def usable(schema_hash: str, sample: Sample) -> ds.Expression:
    """Return the filter on outcomes that training can read."""
    wanted = (
        (pc.field("feature_schema_hash") == schema_hash)
        & (pc.field("status") == Status.OK.value)
        & (pc.field("policy") != Policy.FALLBACK.value)
    )
    if sample.since is not None:
        wanted &= pc.field("time") >= sample.since
    if sample.until is not None:
        wanted &= pc.field("time") <= sample.until
    return wanted


def _candidates(
    batch: pa.RecordBatch,
    labelled: Labelled,
    candidate_ids: Collection[str],
    part: Part,
) -> Iterator[dict[str, Any]]:
    has_label_N = labelled.among(batch.column("decision_id").to_pylist())
    for row in batch.filter(pa.array(has_label_N)).to_pylist():
        if (
            row["answered_by"] == row["choice"]
            and row["answered_by"] in candidate_ids
            and part.holds(row["query_sha256"])
        ):
            yield row


class _Drawn:
    """A weighted sample of units in one pass (Efraimidis and Spirakis 2006, algorithm A-ES).

    A unit is what becomes one training row. Its key follows from its name, so that all outcomes
    of one pinned question are drawn together, and the same log gives the same sample.
    """

    def __init__(self, sample: Sample) -> None:
        self._sample = sample
        self._keys: list[float] = []
        self._ids: list[str] = []
        self._least = -math.inf

    def offer(self, row: dict[str, Any], now: datetime) -> None:
        """Take an outcome, unless enough others come before it."""
        is_pinned = row["policy"] == Policy.PINNED.value
        unit = row["query_sha256"] if is_pinned else row["decision_id"]
        digest = hashlib.blake2b(f"{self._sample.seed} {unit}".encode(), digest_size=8).digest()
        chance = (int.from_bytes(digest, "big") + 1) / (2**64 + 1)
        age_days = 0.0 if is_pinned else max((now - row["time"]).total_seconds(), 0.0) / 86_400
        key = math.log(chance) * 2.0 ** min(age_days / self._sample.half_life_days, 60.0)
        if key < self._least:
            return
        self._keys.append(key)
        self._ids.append(row["decision_id"])
        if len(self._keys) > 8 * self._sample.max_rows + 1024:
            self._cut()

    def decisions(self) -> set[str]:
        """Return the decisions of the units that were drawn."""
        self._cut()
        return set(self._ids)

    def _cut(self) -> None:
        keys = np.array(self._keys)
        units = np.unique(keys)
        if len(units) > self._sample.max_rows:
            self._least = float(units[-self._sample.max_rows])
            kept = np.flatnonzero(keys >= self._least)
            self._keys = keys[kept].tolist()
            self._ids = [self._ids[i] for i in kept]
