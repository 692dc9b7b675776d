"""Of a file of frames that was cut or altered, every frame that is whole is read."""

import struct
import zlib

from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.frames import HEADER, MAGIC, frame_header, scan_frames

payloads = st.lists(
    st.one_of(st.binary(max_size=40), st.just(MAGIC), st.just(frame_header(memoryview(b"x"), 1))),
    max_size=6,
)


def encode(parts):
    """Return a file of these payloads; the n-th has n rows."""
    return b"".join(frame_header(memoryview(part), n) + part for n, part in enumerate(parts))


def decode(data):
    """Return the payloads that are read."""
    return [bytes(payload) for _, payload in scan_frames(data).frames]


@settings(max_examples=100, deadline=None)
@given(payloads)
def test_what_was_written_is_read(parts):
    """Payloads that look like frames are no trouble; the rows are summed."""
    found = scan_frames(encode(parts))
    assert decode(encode(parts)) == parts
    assert found.num_rows == sum(range(len(parts)))
    assert (found.num_torn_bytes, found.num_damaged_bytes) == (0, 0)


@settings(max_examples=100, deadline=None)
@given(payloads, st.data())
def test_a_torn_end_costs_the_last_frame_only(parts, data):
    """Cut anywhere, the frames before the cut are read, and the rest is counted as torn."""
    whole = encode(parts)
    cut = data.draw(st.integers(0, len(whole)))
    ends = [len(encode(parts[: n + 1])) for n in range(len(parts))]
    num_whole = sum(end <= cut for end in ends)
    found = scan_frames(whole[:cut])
    sound = [bytes(payload) for _, payload in found.frames]
    assert sound[:num_whole] == parts[:num_whole]
    # What follows can only be a frame that lay inside the torn payload.
    assert len(sound) == num_whole or found.num_damaged_bytes > 0
    if len(sound) == num_whole:
        assert found.num_torn_bytes == cut - ([0, *ends])[num_whole]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=6), st.data())
def test_an_altered_byte_costs_its_own_frame(parts, data):
    """All other frames are read, those after it too."""
    whole = bytearray(encode(parts))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    ends = [len(encode(parts[: n + 1])) for n in range(len(parts))]
    hit = sum(end <= place for end in ends)
    sound = decode(bytes(whole))
    assert [part for n, part in enumerate(parts) if n != hit] == sound


@given(st.binary(max_size=200))
def test_no_bytes_are_too_strange(data):
    """Whatever lies in the file, reading it ends."""
    found = scan_frames(data)
    read = sum(len(payload) + HEADER.size for _, payload in found.frames)
    assert read + found.num_torn_bytes + found.num_damaged_bytes == len(data)


def test_the_digest_tells_frames_apart():
    """Equal frames have one digest, other frames another, and a torn end changes nothing."""
    first = encode([b"a", b"b"])
    assert scan_frames(first).digest == scan_frames(first + b"torn").digest
    assert scan_frames(first).digest != scan_frames(encode([b"a", b"c"])).digest


def test_frames_checked_by_their_crc_are_read():
    """Writers of before left them in the spool; one that was altered is not taken."""
    payload = b"rows"
    head = struct.pack("<II", len(payload), 3)
    old = struct.pack("<4sIII", b"PtF1", len(payload), 3, zlib.crc32(head + payload)) + payload
    assert decode(old + encode([b"new"])) == [payload, b"new"]
    assert decode(old.replace(b"rows", b"wors")) == []
