"""Step 7, log: append outcome rows and labels as Parquet segments, and read them back.

Layout: ``<root>/<table>/date=YYYY-MM-DD/<writer>-<sequence>.parquet``. A segment appears whole or
not at all: it is written under a dotted name, which readers skip, and then renamed.
"""

from __future__ import annotations

import logging
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

logger = logging.getLogger("pointsman.outcomes")

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
            self._drop_oldest()

    def flush(self) -> int:
        """Write the buffered rows and return how many.

        A row that does not fit the columns is dropped and counted; it takes no other with it.

        Raises:
            OSError: If the folder cannot be written; the rows are kept for the next try.
        """
        with self._flush_lock:
            with self._lock:
                rows, self._rows = self._rows, []
            by_date: dict[str, list[Row]] = defaultdict(list)
            for row in rows:
                by_date[row.time.strftime("%Y-%m-%d")].append(row)
            num_before = self.num_written
            for date in list(by_date):
                try:
                    self._write_segment(date, by_date[date])
                except OSError:
                    kept = [row for rest in by_date.values() for row in rest]
                    with self._lock:
                        self._rows = kept + self._rows
                        self._drop_oldest()
                    raise
                del by_date[date]
            return self.num_written - num_before

    def _drop_oldest(self) -> None:
        num_excess = max(len(self._rows) - self._max_buffered, 0)
        del self._rows[:num_excess]
        self.num_dropped += num_excess

    def _write_segment(self, date: str, rows: Sequence[Row]) -> None:
        table = self._lay_out([row.row() for row in rows])
        if table.num_rows:
            self._write(date, table)
        self.num_written += table.num_rows
        with self._lock:
            self.num_dropped += len(rows) - table.num_rows

    def _lay_out(self, rows: list[dict[str, Any]]) -> pa.Table:
        """Return the rows as a table, without those that the columns cannot hold."""
        try:
            return pa.Table.from_pylist(rows, schema=self._schema)
        except (TypeError, ValueError, OverflowError) as error:
            if len(rows) == 1:
                logger.warning("a row is dropped: %s: %s", type(error).__name__, error)
                return self._schema.empty_table()
            half = len(rows) // 2
            return pa.concat_tables([self._lay_out(rows[:half]), self._lay_out(rows[half:])])

    def _write(self, date: str, table: pa.Table) -> None:
        folder = self._folder / f"date={date}"
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{self._writer}-{self._sequence:08d}.parquet"
        temporary = folder / f".{name}"
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
