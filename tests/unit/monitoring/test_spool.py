"""The spool keeps what was appended, and tells the dead from the living."""

import errno
import os

import pyarrow as pa
import pytest

from monitoring.spool import DamagedSpoolError, Spool, read_spool_file

SCHEMA = pa.schema([("number", pa.int64())])


def batch(*numbers):
    """Return a batch of numbers."""
    return pa.RecordBatch.from_pydict({"number": list(numbers)}, schema=SCHEMA)


def spool(folder, name="one", *, max_file_bytes=1 << 20):
    """Return a spool."""
    return Spool(folder, name, max_file_bytes=max_file_bytes)


def numbers(path):
    """Return the numbers in a spool file."""
    return read_spool_file(path).table["number"].to_pylist()


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
    one = spool(tmp_path, max_file_bytes=1000)
    for number in range(10):
        one.append(batch(number, number))
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
        one.append(batch(1))
        one.seal()
        one.append(batch(2))
    names = [file.name for file in dead.sealed]
    heir.append(batch(3))
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
    one.append(batch(1))
    one.append(batch(2))
    one.seal()
    (file,) = one.sealed
    data = file.path.read_bytes()
    for num_lost in (1, 100):
        file.path.write_bytes(data[:-num_lost])
        found = read_spool_file(file.path)
        assert found.table["number"].to_pylist() == [1]
        assert found.num_lost_bytes > 0
    for size in (0, 10):
        file.path.write_bytes(data[:size])
        assert read_spool_file(file.path).table.num_rows == 0


def test_a_file_without_its_columns_is_damaged(tmp_path):
    """Rows that nobody can name are not guessed."""
    one = spool(tmp_path)
    one.append(batch(1))
    one.seal()
    path = one.sealed[0].path
    data = bytearray(path.read_bytes())
    data[30] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedSpoolError, match="columns"):
        read_spool_file(path)


def test_a_write_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    """Half a frame is cut off again, so that the next one follows a whole one."""
    one = spool(tmp_path)
    one.append(batch(1))
    real = os.writev

    def half(fd, parts):
        real(fd, [bytes(parts[0])[:5]])
        raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "writev", half)
        with pytest.raises(OSError, match="no space"):
            one.append(batch(2))
    one.append(batch(3))
    one.seal()
    found = read_spool_file(one.sealed[0].path)
    assert (found.table["number"].to_pylist(), found.num_lost_bytes) == ([1, 3], 0)


def test_a_write_that_was_cut_short_is_continued(tmp_path, monkeypatch):
    """The kernel may take a part; the rest follows."""
    one = spool(tmp_path)
    real = os.writev
    monkeypatch.setattr(os, "writev", lambda fd, parts: real(fd, [bytes(parts[0])[:7]]))
    one.append(batch(1, 2, 3))
    one.seal()
    assert numbers(one.sealed[0].path) == [1, 2, 3]


def test_what_was_let_go_is_not_removed(tmp_path):
    """After close a file may be another writer's, who counts on it."""
    one = spool(tmp_path)
    one.append(batch(1))
    one.seal()
    (file,) = one.sealed
    one.close()
    one.remove(file)
    one.set_aside(file)
    assert numbers(file.path) == [1]
