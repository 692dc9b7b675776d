"""Step 7, rows: a row as bytes while it is on its way, and many rows as columns once they arrive.

Arrow lays a row out in some fifty columns, which takes a row that comes alone ten times as long as
packing it and, among hundreds of others, laying it out later. Packed rows are msgpack: the values
in the order of the table's columns. The payload of a frame is a length, a msgpack array of that
length (the columns' names, then the rows), and all float32 arrays of the rows one after another:
msgpack copies bytes in and out, which took 6 of the 47 µs of a row of 1,700 features.

Axis legend: M = numbers of all float32 arrays of a frame.
"""

from __future__ import annotations

import logging
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

import msgpack
import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

logger = logging.getLogger("pointsman.outcomes")

_MISFITS = (TypeError, ValueError, OverflowError, pa.ArrowException)
_FLOAT32 = np.dtype("<f4")
_FLOATS = 1
"""Extension type of a float32 array: its bytes, as frames without a prefix hold it."""

_FLOATS_ASIDE = 2
"""Extension type of a float32 array that lies behind the rows: its length."""

_PREFIX = struct.Struct("<cI")
_ASIDE = b"\xc1"
"""Begins a payload with arrays behind its rows; no msgpack begins so."""

_SIZE = struct.Struct("<I")

_CHUNK_ROWS = 128
"""Laid out at once: a row costs what it does in a large table, and Python's collector of garbage
finds few objects. Of 512 rows it took 2 µs a row."""


class PackedRow(NamedTuple):
    """A row on its way to a frame."""

    values: bytes
    floats: bytes
    """Bytes of its float32 arrays."""


class RowPacker:
    """Packs rows; one thread at a time.

    Args:
        names: Of the table's columns.
    """

    def __init__(self, names: Sequence[str]) -> None:
        """Keep one buffer for all rows."""
        self._names = names
        self._floats: list[bytes] = []
        self._packer = msgpack.Packer(default=self._packable, datetime=True, buf_size=1 << 12)

    def pack(self, row: Mapping[str, Any]) -> PackedRow:
        """Return a row as bytes; a column that it lacks is null.

        Raises:
            ValueError: If a value is of a type that the format does not know, a text is no
                Unicode, or an integer has more than 64 bits.
        """
        self._floats.clear()
        try:
            values: bytes = self._packer.pack(list(map(row.get, self._names)))
        except (TypeError, OverflowError) as error:
            raise ValueError(str(error)) from error
        return PackedRow(values, b"".join(self._floats))

    def _packable(self, value: object) -> object:
        if isinstance(value, np.ndarray) and value.dtype == _FLOAT32 and value.ndim == 1:
            self._floats.append(value.tobytes())
            return msgpack.ExtType(_FLOATS_ASIDE, _SIZE.pack(value.size))
        if isinstance(value, np.ndarray | np.generic):
            return value.tolist()
        raise TypeError(f"a row holds no {type(value).__name__}")


def pack_frame(names: Sequence[str], rows: Sequence[PackedRow]) -> bytes:
    """Return the payload of a frame of packed rows."""
    packer = msgpack.Packer(autoreset=False, buf_size=1 << 12)
    packer.pack_array_header(1 + len(rows))
    packer.pack(tuple(names))
    head = packer.bytes()
    size = len(head) + sum(len(row.values) for row in rows)
    prefix = _PREFIX.pack(_ASIDE, size)
    return b"".join((prefix, head, *(row.values for row in rows), *(row.floats for row in rows)))


def lay_out_frames(
    frames: Sequence[tuple[int, memoryview]], schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of frames as batches, without those that the columns cannot hold.

    Args:
        frames: Number of rows and payload of each.
        schema: Of the table. A column that the frames lack is null; what they have besides is
            left out.

    Raises:
        ValueError: If a payload is not what ``pack_frame`` makes of as many rows.
    """
    names: Sequence[str] = ()
    rows: list[Sequence[Any]] = []
    for num_rows, payload in frames:
        found_names, found_rows = _unpack_frame(payload, num_rows)
        if rows and (len(rows) >= _CHUNK_ROWS or found_names != names):
            yield lay_out(names, rows, schema)
            rows = []
        names = found_names
        rows += found_rows
    if rows:
        yield lay_out(names, rows, schema)


def lay_out(
    names: Sequence[str], rows: Sequence[Sequence[Any]], schema: pa.Schema
) -> pa.RecordBatch:
    """Return the rows as a batch, without those that the columns cannot hold.

    Args:
        names: Of the values of each row.
        rows: One or more.
        schema: Of the batch.
    """
    try:
        columns = dict(zip(names, zip(*rows, strict=True), strict=True))
        absent = (None,) * len(rows)
        arrays = [pa.array(columns.get(column.name, absent), column.type) for column in schema]
        return pa.RecordBatch.from_arrays(arrays, schema=schema)
    except _MISFITS as error:
        if len(rows) == 1:
            logger.warning("a row is dropped: %s: %s", type(error).__name__, error)
            return pa.RecordBatch.from_pylist([], schema=schema)
        half = len(rows) // 2
        parts = (rows[:half], rows[half:])
        return pa.concat_batches([lay_out(names, part, schema) for part in parts])


def _unpack_frame(
    payload: memoryview, num_rows: int
) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
    try:
        packed, floats_M = _parted(payload)
        names, *rows = msgpack.unpackb(
            packed, ext_hook=_unpacker(floats_M), timestamp=3, use_list=False, strict_map_key=False
        )
    except (TypeError, ValueError, OverflowError, struct.error, msgpack.UnpackException) as error:
        raise ValueError(f"a frame holds no rows: {type(error).__name__}: {error}") from error
    if len(rows) != num_rows or not all(isinstance(part, tuple) for part in (names, *rows)):
        raise ValueError(f"a frame holds other things than {num_rows} rows")
    return names, rows


def _parted(payload: memoryview) -> tuple[memoryview, np.ndarray]:
    """Return the msgpack of a payload, and ``floats_M`` behind it."""
    if payload[:1] != _ASIDE:
        return payload, np.empty(0, _FLOAT32)
    _, size = _PREFIX.unpack_from(payload)
    end = _PREFIX.size + size
    return payload[_PREFIX.size : end], np.frombuffer(payload[end:], _FLOAT32)


def _unpacker(floats_M: np.ndarray) -> Callable[[int, bytes], object]:
    """Return what makes arrays of msgpack's extensions, the next of the numbers each time."""
    position = 0

    def unpacked(kind: int, data: bytes) -> object:
        nonlocal position
        if kind == _FLOATS_ASIDE:
            start = position
            position += _SIZE.unpack(data)[0]
            if position > floats_M.size:
                raise ValueError("an array ends behind the end of its frame")
            return floats_M[start:position]
        if kind == _FLOATS:
            return np.frombuffer(data, _FLOAT32)
        raise ValueError(f"unknown extension type {kind}")

    return unpacked
