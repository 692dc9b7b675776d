"""Step 7, frames: a file of checked records, of which a crash costs at most the last.

A frame is magic, payload length, number of rows, checksum and payload. Whoever reads a file takes
every frame whose checksum holds and passes over the bytes between them. The checksum is the lower
half of XXH3-64, which takes 0.2 µs for 7 kB where CRC-32 took 1.7. Frames with a CRC are still
read.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import dataclass, field

import xxhash

MAGIC = b"PtF2"
_MAGIC_CRC = b"PtF1"
_MAGIC_STEM = b"PtF"
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
    return HEADER.pack(MAGIC, payload.nbytes, num_rows, _checksum(MAGIC, payload, num_rows))


def scan_frames(data: bytes) -> FrameScan:
    """Return the sound frames of a file; never raises, whatever the bytes."""
    found, view = FrameScan(), memoryview(data)
    digest = hashlib.sha256()
    position = end = 0
    while (position := data.find(_MAGIC_STEM, position)) >= 0:
        payload, num_rows = _frame_at(view, position)
        if payload is None:
            position += 1
            continue
        found.num_damaged_bytes += position - end
        found.frames.append((num_rows, payload))
        # The header holds the payload's checksum, so it stands for the payload at a thousandth of
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
    magic, length, num_rows, checksum = HEADER.unpack(view[position:start])
    payload = view[start : start + length]
    if magic not in (MAGIC, _MAGIC_CRC) or payload.nbytes < length:
        return None, 0
    if _checksum(magic, payload, num_rows) != checksum:
        return None, 0
    return payload, num_rows


def _checksum(magic: bytes, payload: memoryview, num_rows: int) -> int:
    """Return 32 bits of length, number of rows and payload."""
    head = _CHECKED.pack(payload.nbytes, num_rows)
    if magic == _MAGIC_CRC:
        return zlib.crc32(payload, zlib.crc32(head))
    seed = int.from_bytes(head, "little")
    return xxhash.xxh3_64_intdigest(payload, seed) & 0xFFFFFFFF
