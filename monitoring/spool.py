"""Step 7, spool: rows on the local disk, from the moment they are taken until they are in the log.

Layout: ``<folder>/<writer>/<sequence>.spool`` beside ``<folder>/<writer>/lock``, which its writer
holds locked for as long as it lives. Whoever gets the lock of another writer's folder knows that
the writer is dead, and adopts its files under their own names.

Rows survive the death of the process once they are appended, and the death of the machine once
they are synced. One thread at a time may use a spool; the caller sees to that.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa

from monitoring.frames import frame_header, scan_frames
from monitoring.rows import lay_out_frames

if TYPE_CHECKING:
    from pathlib import Path

logger = logging.getLogger("pointsman.outcomes")

DAMAGED = ".damaged"
"""Folder of files that could not become segments; a person decides."""

_SUFFIX = ".spool"
_LOCK = "lock"


class DamagedSpoolError(ValueError):
    """A spool file that cannot become segments."""


@dataclass(slots=True, kw_only=True, eq=False)
class SpoolFile:
    """A file to which nothing is appended any more."""

    path: Path
    size_bytes: int
    num_rows: int
    committed: set[str] = field(default_factory=set)
    """Dates whose rows are known to be in the log."""

    @property
    def name(self) -> str:
        """The name that its segments take: the same whoever commits them."""
        return f"{self.path.parent.name}-{self.path.stem}"


@dataclass(frozen=True, slots=True)
class SpooledRows:
    """The rows of one spool file."""

    table: pa.Table
    """Without those that its columns cannot hold."""

    digest: str
    num_lost_bytes: int
    """Torn or damaged."""


class Spool:
    """The spool files of one writer, and those it adopted, oldest first.

    Args:
        folder: Shared by all writers of one table of one log on this machine.
        writer: Begins the name of this writer's folder; a random token ends it.
        max_file_bytes: Size after which another file is begun.
    """

    def __init__(self, folder: Path, writer: str, *, max_file_bytes: int) -> None:
        """Touch no file yet."""
        self._folder = folder
        self._writer = writer
        self._max_file_bytes = max_file_bytes
        self._locks: dict[Path, int] = {}
        self._own: Path | None = None
        self._active: SpoolFile | None = None
        self._fd = -1
        self._sequence = 0
        self._sealed: deque[SpoolFile] = deque()

    @property
    def size_bytes(self) -> int:
        """What lies in all files, the adopted ones included."""
        active = self._active.size_bytes if self._active else 0
        return active + sum(file.size_bytes for file in self._sealed)

    @property
    def sealed(self) -> tuple[SpoolFile, ...]:
        """Files that wait to be committed, oldest first."""
        return tuple(self._sealed)

    def append(self, payload: bytes, num_rows: int) -> None:
        """Write a frame behind the others.

        Args:
            payload: See `monitoring.rows.pack_frame`.
            num_rows: In the payload.

        Raises:
            OSError: If the disk refuses; nothing of the frame is left in the file.
        """
        active = self._active or self._begin()
        view = memoryview(payload)
        header = frame_header(view, num_rows)
        num_missing = len(header) + view.nbytes
        try:
            num_missing -= os.writev(self._fd, (header, view))
            while num_missing:  # a signal or a filling disk cuts a write short
                num_missing -= os.write(self._fd, (header + view)[-num_missing:])
        except OSError:
            os.ftruncate(self._fd, active.size_bytes)
            raise
        active.size_bytes += len(header) + view.nbytes
        active.num_rows += num_rows

    def seal_if_full(self) -> None:
        """Append no more to the current file if it is large enough."""
        if self._active is not None and self._active.size_bytes >= self._max_file_bytes:
            self.seal()

    def sync(self) -> None:
        """Return when all that was appended to the current file would survive a power cut."""
        if self._active is not None:
            os.fdatasync(self._fd)

    def seal(self) -> bool:
        """Append no more to the current file; return whether there was one."""
        if self._active is None:
            return False
        os.close(self._fd)
        self._sealed.append(self._active)
        self._active, self._fd = None, -1
        return True

    def adopt(self) -> int:
        """Take over the files of dead writers; return how many."""
        num_adopted = 0
        if not self._folder.is_dir():
            return 0
        for folder in sorted(self._folder.iterdir()):
            if folder in self._locks or folder.name.startswith(".") or not self._lock(folder):
                continue
            files = sorted(folder.glob(f"*{_SUFFIX}"))
            for path in reversed(files):
                num_rows = scan_frames(path.read_bytes()).num_rows
                size_bytes = path.stat().st_size
                self._sealed.appendleft(
                    SpoolFile(path=path, size_bytes=size_bytes, num_rows=num_rows)
                )
            num_adopted += len(files)
            if files:
                logger.warning("adopted %d spool files of dead writer %s", len(files), folder.name)
            else:
                self._release(folder)
        return num_adopted

    def remove(self, file: SpoolFile) -> None:
        """Forget a file whose rows are in the log, or are given up."""
        if file not in self._sealed:  # closed meanwhile: the file is another writer's now
            return
        self._sealed.remove(file)
        file.path.unlink(missing_ok=True)
        self._release_if_done(file.path.parent)

    def set_aside(self, file: SpoolFile) -> None:
        """Keep a file that cannot become a segment where no writer finds it."""
        if file not in self._sealed:
            return
        aside = self._folder / DAMAGED
        aside.mkdir(exist_ok=True)
        file.path.rename(aside / f"{file.name}{_SUFFIX}")
        self._sealed.remove(file)
        self._release_if_done(file.path.parent)

    def close(self) -> None:
        """Let go of all folders; another writer adopts what is left in them."""
        self.seal()
        for folder in list(self._locks):
            self._release(folder)
        self._own = None
        self._sealed.clear()

    def _begin(self) -> SpoolFile:
        while self._own is None:
            folder = self._folder / f"{self._writer}-{secrets.token_hex(4)}"
            folder.mkdir(parents=True)
            if self._lock(folder):
                self._own = folder
                _sync_folder(self._folder)
        path = self._own / f"{self._sequence:08d}{_SUFFIX}"
        self._fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o600)
        self._sequence += 1
        self._active = SpoolFile(path=path, size_bytes=0, num_rows=0)
        _sync_folder(self._own)
        return self._active

    def _lock(self, folder: Path) -> bool:
        """Return whether the folder is ours now."""
        path = folder / _LOCK
        try:
            fd = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        except (FileNotFoundError, NotADirectoryError):
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Who held it may have removed the folder between the two calls above.
            if os.fstat(fd).st_ino == path.stat().st_ino:
                self._locks[folder] = fd
                return True
        except OSError:
            pass
        os.close(fd)
        return False

    def _release_if_done(self, folder: Path) -> None:
        if folder != self._own and all(file.path.parent != folder for file in self._sealed):
            self._release(folder)

    def _release(self, folder: Path) -> None:
        """Unlock a folder, and remove it if nothing is left in it."""
        with suppress(OSError):
            if not any(folder.glob(f"*{_SUFFIX}")):
                (folder / _LOCK).unlink()
                folder.rmdir()
        os.close(self._locks.pop(folder))


def read_spool_file(path: Path, schema: pa.Schema) -> SpooledRows:
    """Return the rows of a spool file.

    Args:
        path: Of the file.
        schema: Of the table that the rows go to.

    Raises:
        DamagedSpoolError: If a sound frame holds no rows: another version wrote it.
    """
    found = scan_frames(path.read_bytes())
    try:
        table = pa.Table.from_batches(lay_out_frames(found.frames, schema), schema)
    except ValueError as error:
        raise DamagedSpoolError(f"{path}: {error}") from error
    return SpooledRows(table, found.digest, found.num_torn_bytes + found.num_damaged_bytes)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
