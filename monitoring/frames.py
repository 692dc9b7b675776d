"""Step 7, frames: a file of checked records, of which a crash costs at most the last.

A frame is magic, payload length, number of rows, CRC-32 and payload. Whoever reads a file takes
every frame whose CRC holds and passes over the bytes between them.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import dataclass, field

MAGIC = b"PtF1"
HEADER = struct.Struct("<4sIII")
_CHECKED = struct.Struct("<II")


@dataclass(slots=True, kw_only=True)
class FrameScan:
    """What was found in a file of frames."""

    frames: list[tuple[int, memoryview]] = field(default_factory=list)
    """Number of rows and payload of each, as they were written; views of what was read."""

    num_torn_bytes: int = 0
    """After the last sound frame: a write that did not finish."""

    num_damaged_bytes: int = 0
    """Between sound frames: the disk altered or lost them."""

    digest: str = ""
    """Tells files of different frames apart; in hex."""

    @property
    def num_rows(self) -> int:
        """Rows of all sound frames."""
        return sum(num_rows for num_rows, _ in self.frames)


def frame_header(payload: memoryview, num_rows: int) -> bytes:
    """Return what stands before the payload."""
    return HEADER.pack(MAGIC, payload.nbytes, num_rows, _checksum(payload, num_rows))


def scan_frames(data: bytes) -> FrameScan:
    """Return the sound frames of a file; never raises, whatever the bytes."""
    found, view = FrameScan(), memoryview(data)
    digest = hashlib.sha256()
    position = end = 0
    while (position := data.find(MAGIC, position)) >= 0:
        payload, num_rows = _frame_at(view, position)
        if payload is None:
            position += 1
            continue
        found.num_damaged_bytes += position - end
        found.frames.append((num_rows, payload))
        # The header holds the payload's CRC, so it stands for the payload at a thousandth of
        # the cost.
        digest.update(view[position : position + HEADER.size])
        position = end = position + HEADER.size + payload.nbytes
    found.num_torn_bytes = len(data) - end
    found.digest = digest.hexdigest()
    return found


def _frame_at(view: memoryview, position: int) -> tuple[memoryview | None, int]:
    """Return the payload of the frame that begins here, if it is sound, and its rows."""
    start = position + HEADER.size
    if start > view.nbytes:
        return None, 0
    _, length, num_rows, checksum = HEADER.unpack(view[position:start])
    payload = view[start : start + length]
    if payload.nbytes < length or _checksum(payload, num_rows) != checksum:
        return None, 0
    return payload, num_rows


def _checksum(payload: memoryview, num_rows: int) -> int:
    return zlib.crc32(payload, zlib.crc32(_CHECKED.pack(payload.nbytes, num_rows)))
