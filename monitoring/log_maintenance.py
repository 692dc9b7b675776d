"""Step 7, upkeep: compact closed days, drop old ones, and delete what somebody asked to delete.

Each may be killed at any moment and run again. Each may run while serving writes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from monitoring.log_reader import batches_of, live_segments
from monitoring.outcome import SCHEMA_VERSION
from monitoring.segment import TABLES, Origin, segment_bytes
from monitoring.segment_merge import groups_of_a_day, merge, remove_replaced
from monitoring.segment_store import keeps_first, segment_key
from router.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date

    import pyarrow.dataset as ds

    from monitoring.segment_store import SegmentStore

TARGET_BYTES = 256 << 20
"""Size of a compacted segment, about."""

_SMALL = 0.5
"""Share of the target below which a segment is worth merging."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upkeep:
    """What a run did."""

    num_merged: int = 0
    """Segments written."""

    num_removed: int = 0
    """Segments removed."""

    num_deleted_rows: int = 0
    """Rows that are no longer in the log."""

    def __add__(self, other: Upkeep) -> Upkeep:
        """Return what two runs did together."""
        return Upkeep(
            num_merged=self.num_merged + other.num_merged,
            num_removed=self.num_removed + other.num_removed,
            num_deleted_rows=self.num_deleted_rows + other.num_deleted_rows,
        )


@dataclass(frozen=True, slots=True)
class Doomed:
    """What the table ``deletions`` asks for."""

    decision_ids: frozenset[str]
    tenants: dict[str, datetime]
    """Until when the rows of each tenant are deleted."""

    @property
    def reason(self) -> str:
        """Differs where the rows differ."""
        tenants = sorted((name, until.isoformat()) for name, until in self.tenants.items())
        text = repr((sorted(self.decision_ids), tenants))
        return hashlib.sha256(text.encode()).hexdigest()

    def of_tenants(self) -> ds.Expression:
        """Tell outcomes that a tenant's deletion covers."""
        # ``isin`` is false for null, where ``==`` would be null and take rows without a tenant.
        expression = pc.scalar(value=False)
        for name, until in self.tenants.items():
            expression |= pc.field("tenant").isin([name]) & (pc.field("time") <= pa.scalar(until))
        return expression

    def rows(self, table: str) -> ds.Expression:
        """Tell the rows of a table that are to go."""
        named = pc.field("decision_id").isin(pa.array(sorted(self.decision_ids), pa.string()))
        return named | self.of_tenants() if table == "outcomes" else named


def compact(store: SegmentStore, *, today: date, target_bytes: int = TARGET_BYTES) -> Upkeep:
    """Merge the small segments of each day before today, and carry out recorded deletions.

    Raises:
        InvalidInputError: If the store overwrites files, so that two runs could lose rows.
        LogBusyError: If another run merges at the same time; run again.
    """
    _require_conditions(store)
    done = apply_deletions(store)
    yesterday = today - timedelta(days=1)
    store.remove_leftovers(datetime.combine(yesterday, time(), UTC))
    for table in TABLES:
        # A run that was killed may have left segments that a merged one replaces.
        num_removed = remove_replaced(store, table, until=yesterday)
        live = live_segments(store, table, until=yesterday)
        small = [file for file in live if file.size_bytes < _SMALL * target_bytes]
        num_merged = 0
        for group in groups_of_a_day(small, target_bytes):
            if len(group) > 1:
                merge(store, table, group)
                num_merged += 1
        num_removed += remove_replaced(store, table, until=yesterday)
        done += Upkeep(num_merged=num_merged, num_removed=num_removed)
    return done


def retain(store: SegmentStore, *, days: int, today: date) -> Upkeep:
    """Remove all segments of days that are more than ``days`` before today.

    Raises:
        InvalidInputError: If ``days`` is below 1.
    """
    if days < 1:
        raise InvalidInputError(f"days must be 1 or more, got {days}", "days")
    until = today - timedelta(days=days + 1)
    old = [file for table in TABLES for file in store.files(table, until=until)]
    for file in old:
        store.delete(file.key)
    return Upkeep(num_removed=len(old))


def delete(
    store: SegmentStore,
    *,
    now: datetime,
    decision_ids: Iterable[str] = (),
    tenant: str | None = None,
) -> Upkeep:
    """Delete outcomes and their labels, now and whenever more of them arrive.

    The wish is recorded first. Rows that are still in a spool come to the log later; the next run
    of ``delete`` or ``compact`` takes them out.

    Args:
        store: The log.
        now: A tenant's outcomes up to this time go.
        decision_ids: Which outcomes; with their labels.
        tenant: Whose outcomes; with their labels.

    Raises:
        InvalidInputError: If the store overwrites files, so that two runs could lose rows.
        LogBusyError: If another run merges at the same time; run again.
    """
    _require_conditions(store)
    wishes: list[tuple[str | None, str | None]] = [(name, None) for name in sorted(decision_ids)]
    if tenant is not None:
        wishes.append((None, tenant))
    _record(store, wishes, now)
    return apply_deletions(store)


def apply_deletions(store: SegmentStore) -> Upkeep:
    """Take out of the log what the table ``deletions`` asks for."""
    doomed = _doomed(store)
    done = Upkeep()
    if doomed.tenants:
        found = _ids(store, doomed.of_tenants()) - doomed.decision_ids
        # Recorded before the outcomes go: after that nothing would tell whose the labels were.
        _record(store, [(name, None) for name in sorted(found)], max(doomed.tenants.values()))
        doomed = Doomed(doomed.decision_ids | found, doomed.tenants)
    if not doomed.decision_ids and not doomed.tenants:
        return done
    for table in ("labels", "outcomes"):
        done += _take_out(store, table, doomed)
    return done


def _take_out(store: SegmentStore, table: str, doomed: Doomed) -> Upkeep:
    rows, num_rows, touched = doomed.rows(table), 0, []
    for file in live_segments(store, table):
        found = batches_of(store, TABLES[table], [file], columns=["decision_id"], filters=rows)
        num_found = sum(batch.num_rows for batch in found)
        if num_found:
            num_rows += num_found
            touched.append(file)
    num_merged = 0
    for group in groups_of_a_day(touched, TARGET_BYTES):
        merge(store, table, group, keep=~rows, reason=doomed.reason)
        num_merged += 1
    # Whatever a merged segment replaces may hold rows that somebody asked to delete.
    num_removed = remove_replaced(store, table)
    return Upkeep(num_merged=num_merged, num_removed=num_removed, num_deleted_rows=num_rows)


def _ids(store: SegmentStore, rows: ds.Expression) -> frozenset[str]:
    live, names = live_segments(store, "outcomes"), ["decision_id"]
    found = batches_of(store, TABLES["outcomes"], live, columns=names, filters=rows)
    return frozenset(name for batch in found for name in batch[0].to_pylist())


def _doomed(store: SegmentStore) -> Doomed:
    live = live_segments(store, "deletions")
    ids: set[str] = set()
    tenants: dict[str, datetime] = {}
    for batch in batches_of(store, TABLES["deletions"], live):
        for row in batch.to_pylist():
            if row["decision_id"] is not None:
                ids.add(row["decision_id"])
            if row["tenant"] is not None:
                until = tenants.get(row["tenant"], row["time"])
                tenants[row["tenant"]] = max(until, row["time"])
    return Doomed(frozenset(ids), tenants)


def _record(
    store: SegmentStore, wishes: list[tuple[str | None, str | None]], now: datetime
) -> None:
    if not wishes:
        return
    rows = [
        {"schema_version": SCHEMA_VERSION, "time": now, "decision_id": name, "tenant": tenant}
        for name, tenant in wishes
    ]
    # Named by its content: to record a wish again changes nothing.
    digest = hashlib.sha256(repr((now.isoformat(), wishes)).encode()).hexdigest()
    key = segment_key("deletions", now.date().isoformat(), f"deletion-{digest[:16]}")
    table = pa.Table.from_pylist(rows, schema=TABLES["deletions"])
    store.put_new(key, segment_bytes(table, Origin(digest=digest)))


def _require_conditions(store: SegmentStore) -> None:
    if not keeps_first(store):
        raise InvalidInputError(
            "the outcome log's store overwrites files: it ignores If-None-Match on PutObject; "
            "use one that honours it",
            "outcome_log",
        )
