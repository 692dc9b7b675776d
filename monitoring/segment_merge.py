"""Step 7, merge: one segment in place of several, with all of their rows or with some left out.

A merged segment names in its metadata every segment that it replaces, those that its inputs
replaced included, so that a late second commit of one of them adds no row. Merges of a day are
numbered, and the store takes each number once: of two runs that merge the same day at the same
time, one is refused and reads the day anew.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from monitoring.log_reader import MERGED, batches_of, origin_of, replaced_names
from monitoring.segment import TABLES, Origin, parquet_options
from monitoring.segment_store import StoredFile, segment_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import pyarrow.dataset as ds

    from monitoring.segment_store import SegmentStore

ROW_GROUP_BYTES = 32 << 20
"""Before compression: what a reader holds of one segment."""


class LogBusyError(OSError):
    """Another run merged the same day at the same time."""


def merge(
    store: SegmentStore,
    table: str,
    inputs: Sequence[StoredFile],
    *,
    keep: ds.Expression | None = None,
    reason: str = "",
) -> StoredFile:
    """Commit one segment in place of some of one day, which stay until they are removed.

    Args:
        store: Where they lie.
        table: A key of ``TABLES``.
        inputs: Live segments of one date.
        keep: Which rows; all if None.
        reason: Differs where ``keep`` does.

    Raises:
        LogBusyError: If another run was first; nothing was changed.
        OSError: If the store cannot be reached.
    """
    day = inputs[0].date
    files = _files_of(store, table, day)
    replaced = replaced_names(store, files).get(day, set())
    # Number and check come from one listing: whoever commits after it takes the same number.
    if not {file.name for file in inputs} <= {file.name for file in files} - replaced:
        raise LogBusyError(f"another run merged {table} of {day} meanwhile; run again")
    numbers = [
        int(file.name.removeprefix(MERGED)) for file in files if file.name.startswith(MERGED)
    ]
    key = segment_key(table, day, f"{MERGED}{max(numbers, default=-1) + 1:08d}")
    origin = _origin(store, inputs, reason)
    with tempfile.TemporaryDirectory(prefix="pointsman-") as folder:
        path = Path(folder) / "merged.parquet"
        schema = _schema_of(store, table, inputs)
        _write(path, schema, batches_of(store, schema, inputs, filters=keep), origin)
        merged = StoredFile(key, path.stat().st_size)
        if not store.put_new(key, path) and origin_of(store, merged) != origin:
            raise LogBusyError(f"{key} was made by another run at the same time; run again")
    return merged


def remove_replaced(
    store: SegmentStore, table: str, *, since: date | None = None, until: date | None = None
) -> int:
    """Remove the segments that others replace; return how many."""
    files = store.files(table, since=since, until=until)
    replaced = replaced_names(store, files)
    gone = [file for file in files if file.name in replaced.get(file.date, ())]
    for file in gone:
        store.delete(file.key)
    return len(gone)


def groups_of_a_day(files: Iterable[StoredFile], target_bytes: int) -> Iterator[list[StoredFile]]:
    """Yield files of one date in groups of about the target size."""
    by_day: dict[str, list[StoredFile]] = {}
    for file in sorted(files):
        by_day.setdefault(file.date, []).append(file)
    for day in by_day.values():
        group: list[StoredFile] = []
        for file in day:
            if group and sum(one.size_bytes for one in group) + file.size_bytes > target_bytes:
                yield group
                group = []
            group.append(file)
        yield group


def _files_of(store: SegmentStore, table: str, day: str) -> list[StoredFile]:
    return store.files(table, since=date.fromisoformat(day), until=date.fromisoformat(day))


def _schema_of(store: SegmentStore, table: str, inputs: Sequence[StoredFile]) -> pa.Schema:
    """Return all columns of the inputs: those that a newer version added are kept."""
    schemas = [TABLES[table]]
    for file in inputs:
        with store.filesystem.open_input_file(store.path(file.key)) as source:
            schemas.append(pq.read_schema(source).remove_metadata())
    return pa.unify_schemas(schemas)


def _origin(store: SegmentStore, inputs: Sequence[StoredFile], reason: str) -> Origin:
    names = {file.name for file in inputs}
    text = json.dumps([sorted(names), reason])
    for file in inputs:
        if file.name.startswith(MERGED):
            names |= origin_of(store, file).replaces
    return Origin(digest=hashlib.sha256(text.encode()).hexdigest(), replaces=frozenset(names))


def _write(
    path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch], origin: Origin
) -> None:
    schema = schema.with_metadata(origin.to_metadata())
    with pq.ParquetWriter(path, schema, **parquet_options(schema)) as writer:
        held: list[pa.RecordBatch] = []
        num_bytes = 0
        for batch in batches:
            held.append(batch)
            num_bytes += batch.nbytes
            if num_bytes >= ROW_GROUP_BYTES:
                writer.write_table(pa.Table.from_batches(held, schema))
                held, num_bytes = [], 0
        if held:
            writer.write_table(pa.Table.from_batches(held, schema))
