"""Step 7, rows: a row as bytes while it is on its way, and many rows as columns once they arrive.

Arrow lays a row out in some fifty columns, which takes a row that comes alone ten times as long as
packing it and, among hundreds of others, laying it out later. Packed rows are msgpack: the values
in the order of the table's columns. The payload of a frame is a msgpack array: the columns' names,
then the rows.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import msgpack
import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

logger = logging.getLogger("pointsman.outcomes")

_MISFITS = (TypeError, ValueError, OverflowError, pa.ArrowException)
_FLOAT32 = np.dtype("<f4")
_FLOATS = 1
"""Extension type of a float32 array: its bytes."""

_CHUNK_ROWS = 512
"""Laid out at once: enough that a row costs what it does in a large table, and little memory."""


def pack_row(row: Mapping[str, Any], names: Sequence[str]) -> bytes:
    """Return a row as bytes; a column that it lacks is null.

    Raises:
        ValueError: If a value is of a type that the format does not know, a text is no Unicode,
            or an integer has more than 64 bits.
    """
    try:
        packed: bytes = msgpack.packb(
            list(map(row.get, names)), default=_packable, datetime=True, buf_size=1 << 14
        )
    except (TypeError, OverflowError) as error:
        raise ValueError(str(error)) from error
    return packed


def pack_frame(names: Sequence[str], rows: Sequence[bytes]) -> bytes:
    """Return the payload of a frame of packed rows."""
    packer = msgpack.Packer(autoreset=False, buf_size=1 << 12)
    packer.pack_array_header(1 + len(rows))
    packer.pack(tuple(names))
    return b"".join((packer.bytes(), *rows))


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
        names, *rows = msgpack.unpackb(
            payload, ext_hook=_unpacked, timestamp=3, use_list=False, strict_map_key=False
        )
    except (TypeError, ValueError, OverflowError, msgpack.UnpackException) as error:
        raise ValueError(f"a frame holds no rows: {type(error).__name__}: {error}") from error
    if len(rows) != num_rows or not all(isinstance(part, tuple) for part in (names, *rows)):
        raise ValueError(f"a frame holds other things than {num_rows} rows")
    return names, rows


def _packable(value: object) -> object:
    if isinstance(value, np.ndarray) and value.dtype == _FLOAT32 and value.ndim == 1:
        return msgpack.ExtType(_FLOATS, value.tobytes())
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"a row holds no {type(value).__name__}")


def _unpacked(kind: int, data: bytes) -> object:
    if kind != _FLOATS:
        raise ValueError(f"unknown extension type {kind}")
    return np.frombuffer(data, _FLOAT32)
