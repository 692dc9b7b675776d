"""Step 7, read: rows of the log as a stream, from a local folder or from S3.

Segments that another one replaces are not read, so that no row is seen twice while a day is
being compacted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from monitoring.segment import TABLES, Origin
from monitoring.segment_store import open_store

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import date
    from pathlib import Path

    from monitoring.segment_store import SegmentStore, StoredFile

MERGED = "merged-"
"""Begins the names of segments that replace others."""

BATCH_ROWS = 1024
"""Rows in a batch at most: 7 MB of outcomes with 1,700 features."""

_NUM_READS = 3
_GROUP_BYTES = 64 << 20


def origin_of(store: SegmentStore, file: StoredFile) -> Origin:
    """Return where a segment's rows came from.

    Raises:
        pa.ArrowInvalid: If the file is no Parquet.
    """
    with store.filesystem.open_input_file(store.path(file.key)) as source:
        return Origin.of(pq.read_metadata(source).metadata)


def replaced_names(store: SegmentStore, files: Iterable[StoredFile]) -> dict[str, set[str]]:
    """Return the names of replaced segments by date; only merged segments are opened."""
    replaced: dict[str, set[str]] = {}
    for file in files:
        if file.name.startswith(MERGED):
            replaced.setdefault(file.date, set()).update(origin_of(store, file).replaces)
    return replaced


def live_segments(
    store: SegmentStore, table: str, *, since: date | None = None, until: date | None = None
) -> list[StoredFile]:
    """Return the segments that hold the table's rows, each row once."""
    files = store.files(table, since=since, until=until)
    replaced = replaced_names(store, files)
    return [file for file in files if file.name not in replaced.get(file.date, ())]


def scan(
    root: str | Path,
    table: str,
    columns: Sequence[str] | None = None,
    filters: ds.Expression | None = None,
    *,
    since: date | None = None,
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a table of the log in batches, in memory that does not grow with the log.

    Args:
        root: Local folder, or ``s3://bucket/prefix``.
        table: A key of ``TABLES``.
        columns: Those to read; all if None.
        filters: Which rows; may speak of columns that are not read.
        since: Day, in UTC, before which no file is opened.

    Raises:
        FileNotFoundError: If the log was compacted meanwhile; read again.
        OSError: If the store cannot be reached.
    """
    store = open_store(root)
    files = live_segments(store, table, since=since)
    yield from batches_of(store, TABLES[table], files, columns=columns, filters=filters)


def read_table(
    root: str | Path,
    table: str,
    *,
    columns: Sequence[str] | None = None,
    filters: ds.Expression | None = None,
    since: date | None = None,
) -> pa.Table:
    """Read a table of the log; empty with the right columns where nothing was written yet.

    Arguments and errors are those of ``scan``; a compaction meanwhile is waited out.
    """
    names = TABLES[table].names if columns is None else columns
    schema = pa.schema([TABLES[table].field(name) for name in names])
    for _ in range(_NUM_READS - 1):
        try:
            return pa.Table.from_batches(scan(root, table, names, filters, since=since), schema)
        except FileNotFoundError:
            continue
    return pa.Table.from_batches(scan(root, table, names, filters, since=since), schema)


def batches_of(
    store: SegmentStore,
    schema: pa.Schema,
    files: Iterable[StoredFile],
    *,
    columns: Sequence[str] | None = None,
    filters: ds.Expression | None = None,
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of these segments, in their order; holds some 64 MiB of files at a time.

    The schema is passed so that the partition column ``date`` stays out and segments of an older
    version read with nulls in the columns that they lack.
    """
    kind, filesystem = ds.ParquetFileFormat(), store.filesystem
    for group in _groups(files):
        fragments = [kind.make_fragment(store.path(file.key), filesystem) for file in group]
        if len(group) == 1:
            # A scan of a whole file holds all of it before the first row comes: 330 MB of
            # compacted segment took 560 MB.
            fragments = fragments[0].split_by_row_group(filters, schema)
        scanner = ds.FileSystemDataset(fragments, schema, kind, filesystem).scanner(
            columns=None if columns is None else list(columns),
            filter=filters,
            batch_size=BATCH_ROWS,
            batch_readahead=2,
            fragment_readahead=1 if len(group) == 1 else 8,
        )
        yield from (batch for batch in scanner.to_batches() if batch.num_rows)


def _groups(files: Iterable[StoredFile]) -> Iterator[list[StoredFile]]:
    """Yield files in groups that are read together; a large one comes alone."""
    group: list[StoredFile] = []
    num_bytes = 0
    for file in files:
        if group and num_bytes + file.size_bytes > _GROUP_BYTES:
            yield group
            group, num_bytes = [], 0
        group.append(file)
        num_bytes += file.size_bytes
    if group:
        yield group
