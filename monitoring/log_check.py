"""Step 7, check: whether every segment of the log can be read, and holds each row once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from monitoring.log_reader import BATCH_ROWS, live_segments
from monitoring.segment import TABLES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from monitoring.segment_store import SegmentStore, StoredFile


@dataclass(slots=True, kw_only=True)
class TableCheck:
    """What was found in one table."""

    num_files: int = 0
    num_rows: int = 0
    num_bytes: int = 0
    num_replaced_files: int = 0
    """Left by a run that was killed; the next compaction removes them."""

    num_repeated_ids: int = 0
    """Outcomes whose decision has another outcome; counted by a thorough check."""

    faults: list[str] = field(default_factory=list)
    """Files that cannot be read, each with its reason."""


def check(store: SegmentStore, *, is_thorough: bool = False) -> dict[str, TableCheck]:
    """Return what was found, by table.

    Args:
        store: The log.
        is_thorough: Whether to read every page and verify its checksum, and to look for repeated
            decisions; else only the files' footers are read. Holds all decision ids in memory.
    """
    return {table: _check_table(store, table, is_thorough=is_thorough) for table in TABLES}


def _check_table(store: SegmentStore, table: str, *, is_thorough: bool) -> TableCheck:
    found, seen = TableCheck(), set[str]()
    all_files = store.files(table)
    try:
        files = live_segments(store, table)
    except pa.ArrowInvalid:
        files = all_files
    found.num_replaced_files = len(all_files) - len(files)
    for file in files:
        found.num_files += 1
        found.num_bytes += file.size_bytes
        try:
            for names in _read(store, table, file, is_thorough=is_thorough):
                if table == "outcomes":
                    found.num_repeated_ids += len(names) - len(set(names) - seen)
                    seen.update(names)
            with store.filesystem.open_input_file(store.path(file.key)) as source:
                found.num_rows += pq.read_metadata(source).num_rows
        except (pa.ArrowException, OSError) as error:
            found.faults.append(f"{file.key}: {error}")
    return found


def _read(
    store: SegmentStore, table: str, file: StoredFile, *, is_thorough: bool
) -> Iterator[list[str]]:
    """Yield the decision ids of a file, batch by batch; none unless the check is thorough."""
    with store.filesystem.open_input_file(store.path(file.key)) as source:
        segment = pq.ParquetFile(source, page_checksum_verification=is_thorough)
        known = TABLES[table]
        for column in segment.schema_arrow:
            place = known.get_field_index(column.name)
            if place >= 0 and known.field(place).type != column.type:
                raise pa.ArrowInvalid(f"column {column.name} is {column.type}")
        if is_thorough:
            for batch in segment.iter_batches(batch_size=BATCH_ROWS):
                yield batch["decision_id"].to_pylist()
