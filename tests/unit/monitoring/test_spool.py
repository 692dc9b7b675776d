"""The spool keeps what was appended, and tells the dead from the living."""

import errno
import os

import pyarrow as pa
import pytest

from monitoring.frames import frame_header
from monitoring.rows import RowPacker, pack_frame
from monitoring.spool import DamagedSpoolError, Spool, read_spool_file

SCHEMA = pa.schema([("number", pa.int64())])


def append(one, *numbers):
    """Append a frame of numbers."""
    packer = RowPacker(SCHEMA.names)
    rows = [packer.pack({"number": number}) for number in numbers]
    one.append(pack_frame(SCHEMA.names, rows), len(rows))


def spool(folder, name="one", *, max_file_bytes=1 << 20):
    """Return a spool."""
    return Spool(folder, name, max_file_bytes=max_file_bytes)


def numbers(path):
    """Return the numbers in a spool file."""
    return read_spool_file(path, SCHEMA).table["number"].to_pylist()


def test_nothing_is_touched_before_the_first_row(tmp_path):
    """A writer without rows leaves no folder."""
    one = spool(tmp_path / "spool")
    assert not one.seal()
    assert one.adopt() == 0
    one.sync()
    one.close()
    assert not (tmp_path / "spool").exists()


def test_a_file_is_sealed_when_it_is_large(tmp_path):
    """Each file tells rows and bytes, and they are in order."""
    one = spool(tmp_path, max_file_bytes=100)
    for number in range(10):
        append(one, number, number)
        one.seal_if_full()
    one.seal()
    assert len(one.sealed) > 1
    assert [n for file in one.sealed for n in numbers(file.path)] == [n // 2 for n in range(20)]
    for file in one.sealed:
        assert file.size_bytes == file.path.stat().st_size
        assert file.num_rows == len(numbers(file.path))
    assert one.size_bytes == sum(file.size_bytes for file in one.sealed)


def test_the_dead_are_adopted_under_their_own_names_and_the_living_are_not(tmp_path):
    """The file lock tells; older files come first; empty folders of the dead vanish."""
    dead, living, heir = (spool(tmp_path, name) for name in ("dead", "living", "heir"))
    for one in (dead, living):
        append(one, 1)
        one.seal()
        append(one, 2)
    names = [file.name for file in dead.sealed]
    append(heir, 3)
    heir.seal()
    assert heir.adopt() == 0
    dead.close()
    assert heir.adopt() == 2
    assert heir.sealed[0].name == names[0]
    assert [numbers(file.path) for file in heir.sealed] == [[1], [2], [3]]
    assert [file.num_rows for file in heir.sealed] == [1, 1, 1]
    for file in heir.sealed:
        heir.remove(file)
    heir.close()
    assert [path.name[:6] for path in tmp_path.iterdir()] == ["living"]


def test_a_torn_end_is_cut(tmp_path):
    """A write that the death of the process cut short takes no other row with it."""
    one = spool(tmp_path)
    append(one, 1)
    append(one, 2)
    one.seal()
    (file,) = one.sealed
    data = file.path.read_bytes()
    for num_lost in (1, len(data) // 2 - 1):
        file.path.write_bytes(data[:-num_lost])
        found = read_spool_file(file.path, SCHEMA)
        assert found.table["number"].to_pylist() == [1]
        assert found.num_lost_bytes > 0
    for size in (0, 10):
        file.path.write_bytes(data[:size])
        assert numbers(file.path) == []


def test_an_altered_frame_costs_its_rows_only(tmp_path):
    """Each frame names its columns, so that those before and after it are read."""
    one = spool(tmp_path)
    for number in (1, 2, 3):
        append(one, number)
    one.seal()
    path = one.sealed[0].path
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    found = read_spool_file(path, SCHEMA)
    assert found.table["number"].to_pylist() == [1, 3]
    assert found.num_lost_bytes == len(data) // 3


def test_a_sound_frame_of_other_things_is_damage(tmp_path):
    """Another version wrote it; its rows are not guessed."""
    payload = SCHEMA.serialize().to_pybytes()
    path = tmp_path / "00000000.spool"
    path.write_bytes(frame_header(memoryview(payload), 0) + payload)
    with pytest.raises(DamagedSpoolError, match="00000000"):
        read_spool_file(path, SCHEMA)


def test_a_write_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    """Half a frame is cut off again, so that the next one follows a whole one."""
    one = spool(tmp_path)
    append(one, 1)
    real = os.writev

    def half(fd, parts):
        real(fd, [bytes(parts[0])[:5]])
        raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "writev", half)
        with pytest.raises(OSError, match="no space"):
            append(one, 2)
    append(one, 3)
    one.seal()
    found = read_spool_file(one.sealed[0].path, SCHEMA)
    assert (found.table["number"].to_pylist(), found.num_lost_bytes) == ([1, 3], 0)


def test_a_write_that_was_cut_short_is_continued(tmp_path, monkeypatch):
    """The kernel may take a part; the rest follows."""
    one = spool(tmp_path)
    real = os.writev
    monkeypatch.setattr(os, "writev", lambda fd, parts: real(fd, [bytes(parts[0])[:7]]))
    append(one, 1, 2, 3)
    one.seal()
    assert numbers(one.sealed[0].path) == [1, 2, 3]


def test_what_was_let_go_is_not_removed(tmp_path):
    """After close a file may be another writer's, who counts on it."""
    one = spool(tmp_path)
    append(one, 1)
    one.seal()
    (file,) = one.sealed
    one.close()
    one.remove(file)
    one.set_aside(file)
    assert numbers(file.path) == [1]
