"""Step 7, log: take outcome rows and labels, keep them over a crash, commit them as segments.

    append ──> memory ──(milliseconds)──> spool on the local disk ──(seconds)──> segment store

The request path pays for the first arrow only. A row is in the store exactly once: a segment is
named after its spool file, so that a second try finds the first one's segment.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from monitoring.frames import HEADER
from monitoring.log_reader import origin_of, read_table, scan
from monitoring.rows import PackedRow, RowPacker, lay_out_frames, pack_frame
from monitoring.segment import TABLES, Origin, Row, by_date, segment_bytes
from monitoring.segment_store import LocalStore, StoredFile, open_store, segment_key
from monitoring.spool import DamagedSpoolError, Spool, SpoolFile, read_spool_file
from router.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["TABLES", "Durable", "Row", "SegmentWriter", "SpoolLimits", "read_table", "scan"]

logger = logging.getLogger("pointsman.outcomes")

_LINGER_S = 0.002
"""Rows that come within it share a frame, and a wake-up of the thread."""

_FRAME_ROWS = 64
"""Half a megabyte: larger frames leave the processor's cache between packing and writing."""

_PAUSE_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolLimits:
    """What a writer may take up while the disk or the store is slow."""

    max_buffered_rows: int = 20_000
    """In memory, on their way to the spool; beyond it the oldest are dropped and counted."""

    max_spool_bytes: int = 1 << 30
    """On disk, on their way to the store."""

    drops_oldest: bool = True
    """Whether a full spool drops its oldest rows; else it refuses new ones."""

    @property
    def max_file_bytes(self) -> int:
        """Of one spool file; the rows of one date in it become a segment."""
        return min(64 << 20, self.max_spool_bytes // 4)


@dataclass(slots=True, eq=False)
class Durable:
    """Rows of which somebody waits to hear that they are safe."""

    rows: list[PackedRow] = field(default_factory=list)
    is_safe: bool = False
    error: Exception | None = None


class SegmentWriter:
    """Takes the rows of one table and commits them as segments.

    ``append`` packs the row and takes a lock, and never fails. ``start`` lets a thread of this
    writer bring rows to the spool as they come; without it they go there with the next ``flush``,
    which the owner calls off the request path.

    Args:
        root: The log: a local folder, or ``s3://bucket/prefix``.
        table: A key of ``TABLES``.
        writer: Begins the names of the segments.
        spool: Local folder for rows on their way; ``<root>/.spool`` if None.
        limits: How much may be on its way.
    """

    def __init__(
        self,
        root: str | Path,
        table: str,
        *,
        writer: str,
        spool: Path | None = None,
        limits: SpoolLimits | None = None,
    ) -> None:
        """Start with an empty buffer; no file is touched."""
        self._table = table
        self._schema = TABLES[table]
        self._names: list[str] = self._schema.names
        self._limits = limits or SpoolLimits()
        self._store = open_store(root)
        self._spool = Spool(
            spool_folder(root, spool) / table, writer, max_file_bytes=self._limits.max_file_bytes
        )
        self._packer = RowPacker(self._names)
        self._rows: list[PackedRow] = []
        self._durable: list[Durable] = []
        self._buffer_lock = threading.Lock()
        # Taken in this order where both are: shipping, spooling, buffer.
        self._ship_lock = threading.Lock()
        self._spool_lock = threading.Lock()
        self._shipping: SpoolFile | None = None
        self._wake = threading.Event()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self.num_spooled = 0
        self.num_written = 0
        self.num_dropped = 0
        self.num_retries = 0
        self.num_bytes = 0
        self.num_waiting_bytes = 0

    def start(self) -> None:
        """Bring rows to the spool in the background from now on."""
        if self._thread is None:
            name = f"pointsman-spool-{self._table}"
            self._thread = threading.Thread(target=self._run, name=name, daemon=True)
            self._thread.start()

    def append(self, row: Row) -> None:
        """Take a row. Never blocks on a file."""
        values = row.row()
        try:
            with self._buffer_lock:
                self._rows.append(self._packer.pack(values))
                self._bound_buffer()
        except ValueError as error:
            self._count_dropped(1)
            logger.warning("a row is dropped: %s", error)
            return
        if not self._wake.is_set():
            self._wake.set()

    def offer_durably(self, rows: Sequence[Row]) -> Durable:
        """Take rows that are to be safe once ``settle`` returns. Never blocks on a file."""
        offer = Durable()
        try:
            with self._buffer_lock:
                offer.rows += [self._packer.pack(row.row()) for row in rows]
                self._durable.append(offer)
        except ValueError:
            offer.error = self._misfit()
        return offer

    def settle(self, offer: Durable) -> None:
        """Return when the rows would survive a power cut; offers that wait share one sync.

        Raises:
            InvalidInputError: If a row fits the columns not; none of the offer is kept.
            OSError: If the disk is full or broken; the rows may or may not be kept.
        """
        with self._spool_lock:
            if not offer.is_safe and offer.error is None:
                self._spool_durable()
        if offer.error is not None:
            raise offer.error

    def spool_now(self) -> None:
        """Bring the rows in memory to the spool.

        Raises:
            OSError: If the disk refuses; the rows stay in memory.
        """
        with self._spool_lock:
            self._spool_buffer()

    def flush(self) -> int:
        """Commit all rows that were taken, those of dead writers too; return how many.

        Raises:
            OSError: If spool or store cannot be written; the rows are kept for the next try.
        """
        with self._ship_lock:
            num_before, failure = self.num_written, None
            try:
                with self._spool_lock:
                    self._spool.adopt()
                    self._spool_buffer()
            except OSError as error:
                # Shipping goes on: it is what makes room on a full disk.
                failure = error
            # A new file is sealed only once the old ones are gone, so that an outage leaves few
            # large files and not many small ones.
            self._ship_sealed()
            with self._spool_lock:
                self._spool.seal()
            self._ship_sealed()
            if failure is not None:
                raise failure
            return self.num_written - num_before

    def close(self) -> None:
        """Bring what is in memory to the spool, from which the next writer adopts it."""
        self._closed.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(5 * _PAUSE_S)
        with self._spool_lock:
            try:
                self._spool_buffer()
            except OSError:
                logger.exception("rows in memory are lost: the spool cannot be written")
            self._spool.close()

    def counts(self) -> dict[str, int]:
        """Return rows, tries and bytes since the start, and the bytes that wait in the spool."""
        return {
            "written": self.num_written,
            "spooled": self.num_spooled,
            "dropped": self.num_dropped,
            "retries": self.num_retries,
            "bytes": self.num_bytes,
            "waiting_bytes": self.num_waiting_bytes,
        }

    def _run(self) -> None:
        while not self._closed.is_set():
            self._wake.wait()
            time.sleep(_LINGER_S)
            self._wake.clear()
            try:
                self.spool_now()
            except OSError:
                logger.exception("the spool cannot be written; rows wait in memory")
                self._closed.wait(_PAUSE_S)
                self._wake.set()

    def _bound_buffer(self) -> None:
        num_excess = max(len(self._rows) - self._limits.max_buffered_rows, 0)
        if num_excess:
            del self._rows[:num_excess]
            self.num_dropped += num_excess

    def _spool_buffer(self) -> None:
        with self._buffer_lock:
            rows, self._rows = self._rows, []
        for start in range(0, len(rows), _FRAME_ROWS):
            part = rows[start : start + _FRAME_ROWS]
            try:
                self._to_spool(pack_frame(self._names, part), len(part))
            except OSError:
                with self._buffer_lock:
                    self._rows = rows[start:] + self._rows
                    self._bound_buffer()
                raise
            self._spool.seal_if_full()

    def _spool_durable(self) -> None:
        with self._buffer_lock:
            offers, self._durable = self._durable, []
        for offer in offers:
            try:
                payload, num_rows = pack_frame(self._names, offer.rows), len(offer.rows)
                batches = lay_out_frames([(num_rows, memoryview(payload))], self._schema)
                if sum(batch.num_rows for batch in batches) == num_rows:
                    self._to_spool(payload, num_rows)
                else:
                    offer.error = self._misfit()
            except OSError as error:
                offer.error = error
        try:
            self._spool.sync()
        except OSError as error:
            for offer in offers:
                offer.error = offer.error or error
        self._spool.seal_if_full()
        for offer in offers:
            offer.is_safe = offer.error is None

    def _misfit(self) -> InvalidInputError:
        message = f"a value fits no column of {self._table}; send texts and numbers"
        return InvalidInputError(message, self._table)

    def _to_spool(self, payload: bytes, num_rows: int) -> None:
        self._make_room(HEADER.size + len(payload))
        self._spool.append(payload, num_rows)
        self.num_spooled += num_rows
        self.num_waiting_bytes = self._spool.size_bytes

    def _make_room(self, num_bytes: int) -> None:
        """Drop the oldest spool files, or refuse, until the bytes fit."""
        while self._spool.size_bytes + num_bytes > self._limits.max_spool_bytes:
            if not self._limits.drops_oldest:
                raise OSError(errno.ENOSPC, f"the spool of {self._table} is full; mend the store")
            files = [file for file in self._spool.sealed if file is not self._shipping]
            if files:
                self._spool.remove(files[0])
                self._count_dropped(files[0].num_rows)
                logger.warning("the spool is full: dropped %d rows", files[0].num_rows)
            elif not self._spool.seal():
                return

    def _count_dropped(self, num_rows: int) -> None:
        with self._buffer_lock:
            self.num_dropped += num_rows

    def _ship_sealed(self) -> None:
        while (file := self._take_oldest()) is not None:
            try:
                num_rows, put_away = self._ship(file), self._spool.remove
            except DamagedSpoolError:
                logger.exception("a spool file is set aside")
                num_rows, put_away = 0, self._spool.set_aside
            except OSError:
                self.num_retries += 1
                self._shipping = None
                raise
            with self._spool_lock:
                self._shipping = None
                put_away(file)
                self.num_waiting_bytes = self._spool.size_bytes
            self._count_dropped(file.num_rows - num_rows)

    def _take_oldest(self) -> SpoolFile | None:
        with self._spool_lock:
            self._shipping = next(iter(self._spool.sealed), None)
            return self._shipping

    def _ship(self, file: SpoolFile) -> int:
        """Commit the rows of a spool file; return how many the columns hold."""
        spooled = read_spool_file(file.path, self._schema)
        if spooled.num_lost_bytes:
            logger.warning("%d bytes of %s were torn", spooled.num_lost_bytes, file.name)
        for date, rows in by_date(spooled.table):
            if date in file.committed:
                continue
            data = segment_bytes(rows, Origin(digest=spooled.digest))
            key = segment_key(self._table, date, file.name)
            if not self._store.put_new(key, data) and not self._is_ours(key, spooled.digest):
                raise DamagedSpoolError(f"segment {key} holds other rows than {file.path}")
            file.committed.add(date)
            self.num_written += rows.num_rows
            self.num_bytes += len(data)
        return spooled.table.num_rows

    def _is_ours(self, key: str, digest: str) -> bool:
        """Return whether a segment that exists already is what an earlier try committed."""
        try:
            return origin_of(self._store, StoredFile(key, 0)).digest == digest
        except pa.ArrowInvalid:
            return False


def spool_folder(root: str | Path, spool: Path | None) -> Path:
    """Return the folder for rows on their way to one log.

    Raises:
        InvalidInputError: If the log is not local and no folder is named.
    """
    store = open_store(root)
    if spool is None:
        if not isinstance(store, LocalStore):
            raise InvalidInputError(
                f"outcome log {root} needs outcome_log_spool, a local folder", "outcome_log_spool"
            )
        return Path(root).absolute() / ".spool"
    # Rows of one log must not be adopted into another that shares the folder.
    token = hashlib.sha256(store.path("").encode()).hexdigest()[:12]
    return spool.absolute() / token
