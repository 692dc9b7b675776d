"""The house is never overfull, and low priorities are the first to be turned away."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.admission import (
    Admission,
    OverloadedError,
    Priority,
    TooManyRequestsError,
    TurnedAwayError,
    key_of,
    read_priority,
    retry_after,
)
from deployments.door import Door
from router.errors import InvalidInputError


def fill(admission, num, priority=Priority.HIGH):
    """Let as many in as there is room for, up to a number."""
    tickets = []
    for i in range(num):
        try:
            tickets.append(admission.enter(f"key{i}", priority, 0.0))
        except OverloadedError:
            break
    return tickets


@pytest.mark.parametrize(
    ("priority", "room"), [(Priority.LOW, 70), (Priority.NORMAL, 90), (Priority.HIGH, 100)]
)
def test_each_priority_has_its_room(priority, room):
    """70, 90 and 100 of a hundred places."""
    assert len(fill(Admission(100), 200, priority)) == room


def test_the_smallest_house_takes_anybody():
    """One place is not 0.7 of a place."""
    assert len(fill(Admission(1), 9, Priority.LOW)) == 1


def test_a_key_has_its_own_bound():
    """The others are not touched by it, and it ends when a request does."""
    admission = Admission(100, max_per_key=2)
    first = admission.enter("a", Priority.NORMAL, 0.0)
    admission.enter("a", Priority.NORMAL, 0.0)
    with pytest.raises(TooManyRequestsError, match="has 2 requests under way"):
        admission.enter("a", Priority.HIGH, 0.0)
    admission.enter("b", Priority.NORMAL, 0.0)
    admission.leave(first, 1.0)
    admission.enter("a", Priority.NORMAL, 1.0)


def test_a_place_is_given_back_once():
    """However often the ways out of a request meet."""
    admission = Admission(10)
    ticket, _ = fill(admission, 2)
    for _ in range(3):
        admission.leave(ticket, 1.0)
    assert (admission.num_in_flight, admission.num_keys()) == (1, 1)


def test_a_priority_that_is_known_late_counts_its_own_place_not():
    """A low request that holds the seventieth place may keep it; the next may not."""
    admission = Admission(100)
    fill(admission, 70)
    admission.check(Priority.LOW, num_held=1)
    fill(admission, 1)
    with pytest.raises(OverloadedError, match="low"):
        admission.check(Priority.LOW, num_held=1)


def test_the_wait_follows_how_long_requests_stay():
    """They stay 20 s: a place of a hundred comes free in 0.2 s, thirty-one of them in 6 s."""
    admission = Admission(100)
    for _ in range(300):
        admission.leave(admission.enter("a", Priority.LOW, 0.0), 20.0)
    fill(admission, 100)
    waits = {}
    for priority in Priority:
        with pytest.raises(OverloadedError) as caught:
            admission.check(priority)
        waits[priority] = retry_after(caught.value)
    assert waits == {Priority.HIGH: "1", Priority.NORMAL: "3", Priority.LOW: "7"}


@pytest.mark.parametrize("kind", [TurnedAwayError, OverloadedError, TooManyRequestsError])
def test_errors_survive_pickling(kind):
    """Class, text and wait."""
    copy = pickle.loads(pickle.dumps(kind("full", 2.5)))  # noqa: S301 - our own bytes
    assert (type(copy), str(copy), copy.retry_after_s) == (kind, "full", 2.5)


def test_keys_are_told_apart_and_not_revealed():
    """A hash each; one name for all who have none."""
    assert key_of("Bearer sk-secret") == key_of("Bearer sk-secret") != key_of("Bearer sk-other")
    assert "secret" not in key_of("Bearer sk-secret")
    assert key_of(None) == key_of("") == "anonymous"


def test_priorities_are_three_words():
    """Any other is refused with the words that are known."""
    assert read_priority(None, "h") is None
    assert read_priority(" High ", "h") is Priority.HIGH
    with pytest.raises(InvalidInputError, match="send one of high, normal, low"):
        read_priority("urgent", "h")


def test_a_full_house_turns_away_before_the_body_is_read():
    """While there is room for high only, a large body without a header counts as normal."""
    admission = Admission(10)
    door = Door(admission, api_key_header="authorization")
    fill(admission, 9)
    with pytest.raises(OverloadedError, match="normal"):
        door.enter({"content-length": "9000000"})
    with pytest.raises(OverloadedError, match="normal"):
        door.enter({"content-length": "100", "x-pointsman-priority": "normal"})
    visit = door.enter({"content-length": "100"})
    visit.check("high")
    with pytest.raises(OverloadedError, match="normal"):
        visit.check(None)
    visit.leave()
    visit = door.enter({"content-length": "9000000", "x-pointsman-priority": "high"})
    visit.check("low")
    for _ in range(2):
        visit.leave()
    assert door.num_in_flight == 9


def test_sessions_of_different_keys_are_different():
    """Two users may name theirs alike; the header goes before the body."""
    door = Door(Admission(10), api_key_header="authorization")
    one = door.enter({"authorization": "one", "x-pointsman-session": "s"})
    other = door.enter({"authorization": "other"})
    assert one.session("t").endswith(":s")
    assert other.session("s").endswith(":s")
    assert one.session(None) != other.session("s")
    assert other.session(None) is None


acts = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(list(Priority)), st.booleans()), max_size=80
)


@given(acts=acts, most=st.integers(1, 12), per_key=st.none() | st.integers(1, 5))
def test_in_every_history_the_bounds_hold(acts, most, per_key):
    """Never more inside than places; whoever is let in when a lower one is, too; all leave."""
    admission, inside, turned_away = Admission(most, per_key), [], []
    for key, priority, leaves in acts:
        if leaves and inside:
            admission.leave(inside.pop(0), 1.0)
            continue
        try:
            inside.append(admission.enter(key, priority, 0.0))
        except TurnedAwayError as error:
            turned_away.append((error, priority, len(inside)))
        assert admission.num_in_flight == len(inside) <= most
        if per_key:
            assert max((sum(t.key == k for t in inside) for k in "abc"), default=0) <= per_key
    assert all(0 < error.retry_after_s <= 30.0 for error, *_ in turned_away)
    overfull = [n for e, p, n in turned_away if isinstance(e, OverloadedError) and p == "high"]
    assert set(overfull) <= {most}
    for ticket in inside:
        admission.leave(ticket, 2.0)
    assert (admission.num_in_flight, admission.num_keys()) == (0, 0)
