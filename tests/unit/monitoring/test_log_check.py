"""A check names what the log cannot give back, and what it holds twice."""

from monitoring.log_check import check


def test_a_check_names_what_cannot_be_read(log):
    """A whole log has no fault; a flipped byte shows in a thorough check, a broken end in any."""
    for number in range(2):
        log.write(number)
    found = check(log.store, is_thorough=True)
    assert (found["outcomes"].num_files, found["outcomes"].num_rows) == (2, 2)
    assert not any(one.faults for one in found.values())
    first, second = (log.root / file.key for file in log.store.files("outcomes"))
    data = bytearray(first.read_bytes())
    data[60] ^= 1
    first.write_bytes(data)
    second.write_bytes(b"PAR1 and no more")
    assert len(check(log.store)["outcomes"].faults) == 1
    assert len(check(log.store, is_thorough=True)["outcomes"].faults) == 2


def test_a_repeated_decision_is_counted(log):
    """One decision with two outcomes is one too many."""
    for _ in range(2):
        log.write(1)
    assert check(log.store, is_thorough=True)["outcomes"].num_repeated_ids == 1
    assert check(log.store)["outcomes"].num_repeated_ids == 0
