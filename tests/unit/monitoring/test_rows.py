"""What is packed comes back as columns, and what no column holds takes nothing with it."""

import math
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum

import msgpack
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.outcome import OUTCOME_SCHEMA
from monitoring.rows import RowPacker, lay_out_frames, pack_frame

SCHEMA = pa.schema(
    [
        ("text", pa.string()),
        ("number", pa.int64()),
        ("real", pa.float64()),
        ("time", pa.timestamp("us", tz="UTC")),
        ("features", pa.list_(pa.float32())),
        ("parts", pa.list_(pa.struct([("name", pa.string()), ("value", pa.float32())]))),
    ]
)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def nullable(values):
    """Return these values, or none."""
    return st.none() | values


values = st.fixed_dictionaries(
    {
        "text": nullable(st.text(st.characters(codec="utf-8"), max_size=8)),
        "number": nullable(st.integers(-(2**63), 2**63 - 1)),
        "real": nullable(st.floats(allow_nan=False)),
        "time": nullable(
            st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis adds the zone
        ),
        "features": nullable(st.lists(st.floats(width=32, allow_nan=False), max_size=4)),
        "parts": nullable(
            st.lists(
                st.fixed_dictionaries({"name": st.text("ab"), "value": st.floats(0, 1, width=32)}),
                max_size=2,
            )
        ),
    }
)


def frame(*rows, names=SCHEMA.names):
    """Return a frame of these rows, as it is read."""
    packer = RowPacker(names)
    return len(rows), memoryview(pack_frame(names, [packer.pack(row) for row in rows]))


def laid_out(*frames, schema=SCHEMA):
    """Return the rows of frames, as dictionaries."""
    return pa.Table.from_batches(lay_out_frames(frames, schema), schema).to_pylist()


@given(st.lists(st.lists(values, max_size=3), max_size=3))
def test_any_row_comes_back(parts):
    """Times to the microsecond, integers to the last bit, features as arrays, in order."""
    packed = [
        frame(*(row | {"features": _array(row["features"])} for row in rows)) for rows in parts
    ]
    assert laid_out(*packed) == [row for rows in parts for row in rows]


def _array(numbers):
    return None if numbers is None else np.array(numbers, np.float32)


def test_an_outcome_is_laid_out_as_arrow_lays_it_out(outcome):
    """The way through bytes changes nothing, not even the type of a column."""
    rows = [outcome(number).row() for number in range(3)]
    (batch,) = lay_out_frames([frame(*rows, names=OUTCOME_SCHEMA.names)], OUTCOME_SCHEMA)
    assert batch.equals(pa.RecordBatch.from_pylist(rows, schema=OUTCOME_SCHEMA))


def test_numbers_of_numpy_are_numbers():
    """Scalars, arrays of other types, and a text that is a member of an enumeration."""
    Kind = StrEnum("Kind", ["PIE"])
    row = {
        "text": Kind.PIE,
        "number": np.int64(3),
        "real": np.float32(0.5),
        "features": np.array([1, 2]),
    }
    (found,) = laid_out(frame(row))
    assert (found["text"], found["number"], found["real"]) == ("pie", 3, 0.5)
    assert found["features"] == [1.0, 2.0]


def test_a_time_of_another_zone_is_the_same_moment():
    """Rows say UTC."""
    there = NOON.astimezone(timezone(timedelta(hours=5)))
    assert laid_out(frame({"time": there}))[0]["time"] == NOON


def test_nan_stays_nan():
    """It is no null."""
    (found,) = laid_out(frame({"real": math.nan, "features": np.array([math.nan], np.float32)}))
    assert math.isnan(found["real"])
    assert math.isnan(found["features"][0])


@pytest.mark.parametrize("value", ["\ud800", 1 << 64, -(1 << 64), 1j, NOON.replace(tzinfo=None)])
def test_what_msgpack_does_not_hold_is_refused(value):
    """The caller learns of it at once."""
    with pytest.raises(ValueError, match=r".+"):
        RowPacker(SCHEMA.names).pack({"text": value})


@given(st.lists(st.booleans(), max_size=12))
def test_misfits_take_no_other_row_with_them(fits):
    """Wherever they stand, and be they all."""
    rows = [{"number": n if is_fit else "many"} for n, is_fit in enumerate(fits)]
    found = [row["number"] for row in laid_out(frame(*rows))]
    assert found == [n for n, is_fit in enumerate(fits) if is_fit]


def test_frames_of_another_version_are_laid_out_by_name():
    """A column that they lack is null, and one that is gone is left out."""
    old = ["gone", "number"]
    found = laid_out(
        frame({"gone": "x", "number": 1}, names=old), frame({"number": 2, "text": "new"})
    )
    assert [(row["text"], row["number"]) for row in found] == [(None, 1), ("new", 2)]


def test_frames_of_one_row_are_laid_out_together():
    """A column costs the same for one row and for a hundred."""
    frames = [frame({"number": number}) for number in range(300)]
    batches = list(lay_out_frames(frames, SCHEMA))
    assert [batch.num_rows for batch in batches] == [128, 128, 44]
    assert pa.Table.from_batches(batches)["number"].to_pylist() == list(range(300))


def test_frames_that_hold_their_arrays_among_the_values_are_laid_out():
    """Writers of before left them in the spool."""
    features = np.array([1, 2], "<f4")
    rows = [[7, msgpack.ExtType(1, features.tobytes())], [8, None]]
    payload = msgpack.packb([["number", "features"], *rows])
    found = laid_out((2, memoryview(payload)))
    assert [(row["number"], row["features"]) for row in found] == [(7, [1.0, 2.0]), (8, None)]


@pytest.mark.parametrize(
    ("payload", "num_rows"),
    [
        (b"", 1),
        (b"\xc1", 1),
        (msgpack.packb(5), 0),
        (msgpack.packb([]), 0),
        (msgpack.packb([["number"], [1]]), 2),
        (msgpack.packb([["number"], 1]), 1),
        (msgpack.packb([["number"], [1]]) + b"\x00", 1),
        (msgpack.packb([["number"], [1]])[:-1], 1),
        (msgpack.packb([["number"], [msgpack.ExtType(9, b"")]]), 1),
        (msgpack.packb([["number"], [msgpack.ExtType(1, b"abc")]]), 1),
        (msgpack.packb([["number"], [msgpack.Timestamp(1 << 60)]]), 1),
        (bytes(frame({"features": np.ones(3, np.float32)})[1])[:-1], 1),
        (bytes(frame({"features": np.ones(3, np.float32)})[1])[:-4], 1),
        (b"\x92\x91\xa1a\x91\x81\x91\x80\x01", 1),
        (b"\x91" * 2000, 0),
    ],
)
def test_a_payload_that_is_no_frame_is_refused(payload, num_rows):
    """No bytes are too strange, and none are guessed at."""
    with pytest.raises(ValueError, match="frame"):
        list(lay_out_frames([(num_rows, memoryview(payload))], SCHEMA))


@given(st.binary(max_size=60), st.integers(0, 3))
def test_any_bytes_are_rows_or_refused(payload, num_rows):
    """Another error would stop the log for good."""
    try:
        found = list(lay_out_frames([(num_rows, memoryview(payload))], SCHEMA))
    except ValueError:
        return
    assert sum(batch.num_rows for batch in found) <= num_rows
