"""Step 7, log: append outcome rows and labels as Parquet segments, and read them back.

Layout: ``<root>/<table>/date=YYYY-MM-DD/<writer>-<sequence>.parquet``. A segment appears whole or
not at all: it is written under a dotted name, which readers skip, and then renamed.
"""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from monitoring.outcome import LABEL_SCHEMA, OUTCOME_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

TABLES = {"outcomes": OUTCOME_SCHEMA, "labels": LABEL_SCHEMA}
"""Schema of each table of the log."""


class Row(Protocol):
    """Anything with a time that can lay itself out as a row."""

    @property
    def time(self) -> datetime:
        """When it happened, in UTC."""
        ...

    def row(self) -> dict[str, Any]:
        """Return the columns by name."""
        ...


class SegmentWriter:
    """Buffers the rows of one table and writes them as segments.

    ``append`` only takes a lock and a list; files are written by ``flush``, which the owner calls
    off the request path.

    Args:
        root: The log's folder.
        table: A key of ``TABLES``.
        writer: Name unique among all writers of the log.
        max_buffered: Most rows held; beyond it the oldest are dropped and counted.
    """

    def __init__(self, root: Path, table: str, *, writer: str, max_buffered: int = 50_000) -> None:
        """Start with an empty buffer; no file is touched."""
        self._folder = root / table
        self._schema = TABLES[table]
        self._writer = writer
        self._max_buffered = max_buffered
        self._rows: list[Row] = []
        self._sequence = 0
        self._lock = threading.Lock()
        self._flush_lock = threading.Lock()
        self.num_written = 0
        self.num_dropped = 0

    def append(self, row: Row) -> None:
        """Take a row. Never blocks on a file."""
        with self._lock:
            self._rows.append(row)
            if len(self._rows) > self._max_buffered:
                del self._rows[0]
                self.num_dropped += 1

    def flush(self) -> int:
        """Write the buffered rows and return how many.

        Raises:
            OSError: If the folder cannot be written; the rows are kept for the next try.
        """
        with self._flush_lock:
            with self._lock:
                rows, self._rows = self._rows, []
            by_date: dict[str, list[Row]] = defaultdict(list)
            for row in rows:
                by_date[row.time.strftime("%Y-%m-%d")].append(row)
            for date in list(by_date):
                try:
                    self._write_segment(date, by_date[date])
                except OSError:
                    kept = [row for rest in by_date.values() for row in rest]
                    with self._lock:
                        self._rows = kept + self._rows
                    raise
                self.num_written += len(by_date.pop(date))
            return len(rows)

    def _write_segment(self, date: str, rows: Sequence[Row]) -> None:
        folder = self._folder / f"date={date}"
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{self._writer}-{self._sequence:08d}.parquet"
        temporary = folder / f".{name}"
        table = pa.Table.from_pylist([row.row() for row in rows], schema=self._schema)
        pq.write_table(table, temporary, compression="zstd")
        os.replace(temporary, folder / name)  # noqa: PTH105 - os.replace is the atomic call
        self._sequence += 1


def read_table(
    root: Path, table: str, *, columns: Sequence[str] | None = None, filters: ds.Expression = None
) -> pa.Table:
    """Read a table of the log; empty with the right columns where nothing was written yet."""
    folder = root / table
    schema = TABLES[table]
    if not folder.exists():
        empty = schema.empty_table()
        return empty.select(list(columns)) if columns is not None else empty
    # The schema is passed so that the partition column ``date`` stays out and segments of an
    # older version read with nulls in the columns that they lack.
    dataset = ds.dataset(folder, schema=schema, format="parquet", exclude_invalid_files=False)
    return dataset.to_table(columns=None if columns is None else list(columns), filter=filters)
