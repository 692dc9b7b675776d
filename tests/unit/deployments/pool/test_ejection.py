"""Who fails is left alone for a while; never too many, and never for ever."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.pool.ejection import Ejection, EjectionRules

POOL = ("a", "b", "c", "d")
RULES = EjectionRules(num_in_a_row=3, base_s=5.0, max_s=40.0)


def fail(ejection, name, now_s, *, times=1, is_fatal=False):
    """Let calls fail one after the other; return whether the last one ejected."""
    return [ejection.fail(ejection.begin(name, now_s), now_s, is_fatal=is_fatal)
            for _ in range(times)][-1]  # fmt: skip


def succeed(ejection, name, now_s):
    """Let a call be answered."""
    ejection.succeed(ejection.begin(name, now_s), now_s)


@pytest.fixture
def ejection():
    """Return a memory without failures."""
    return Ejection(RULES)


def test_three_failures_in_a_row_eject(ejection):
    """Two do not; an answer between them starts the count anew."""
    fail(ejection, "a", 0.0, times=2)
    succeed(ejection, "a", 0.0)
    assert not fail(ejection, "a", 0.0, times=2)
    assert ejection.ejected(POOL, 0.0) == frozenset()
    assert fail(ejection, "a", 0.0)
    assert ejection.ejected(POOL, 0.0) == {"a"}
    assert ejection.ejected(POOL, 4.9) == {"a"}
    assert ejection.ejected(POOL, 5.0) == frozenset()


def test_a_dead_engine_is_ejected_by_its_first_failure(ejection):
    """The next request must not find out again."""
    assert fail(ejection, "a", 0.0, is_fatal=True)
    assert ejection.ejected(POOL, 0.0) == {"a"}


def test_who_failed_last_or_is_not_back_yet_is_suspect(ejection):
    """Until it answers."""
    assert not ejection.is_suspect("a")
    fail(ejection, "a", 0.0)
    assert ejection.is_suspect("a")
    succeed(ejection, "a", 0.0)
    assert not ejection.is_suspect("a")
    fail(ejection, "a", 0.0, is_fatal=True)
    assert ejection.is_suspect("a")
    succeed(ejection, "a", 9.0)
    assert not ejection.is_suspect("a")


def test_half_of_many_calls_eject():
    """Answers between the failures keep the row short, but not the share."""
    ejection = Ejection(EjectionRules(num_in_a_row=99, min_calls=10, failure_share=0.5))
    for _ in range(5):
        succeed(ejection, "a", 0.0)
    assert not fail(ejection, "a", 1.0, times=4)
    assert fail(ejection, "a", 2.0)


def test_what_is_long_ago_does_not_count():
    """Failures of the last half minute count."""
    ejection = Ejection(EjectionRules(num_in_a_row=99, min_calls=4, window_s=30.0))
    fail(ejection, "a", 0.0, times=3)
    assert not fail(ejection, "a", 31.0)


def test_one_request_is_let_through_afterwards(ejection):
    """While it is on its way the candidate stays masked for the others; an answer readmits."""
    fail(ejection, "a", 0.0, times=3)
    trial = ejection.begin("a", 6.0)
    assert ejection.ejected(POOL, 6.0) == {"a"}
    other = ejection.begin("a", 6.0)
    ejection.succeed(other, 6.0)
    assert ejection.ejected(POOL, 6.0) == {"a"}
    ejection.answer(trial)
    assert ejection.ejected(POOL, 6.0) == frozenset()
    assert not fail(ejection, "a", 7.0, times=2)


@pytest.mark.parametrize(("is_trial", "ejected"), [(True, {"a"}), (False, frozenset())])
def test_a_trial_whose_answer_breaks_off_ejects_at_once(ejection, is_trial, ejected):
    """Another answer that does is one failure of three."""
    fail(ejection, "a", 0.0, times=3)
    trial = ejection.begin("a", 6.0)
    ejection.answer(trial)
    other = ejection.begin("a", 6.0)
    ejection.answer(other)
    assert ejection.fail(trial if is_trial else other, 7.0) is is_trial
    assert ejection.ejected(POOL, 7.0) == ejected
    ejection.succeed(ejection.begin("a", 8.0), 8.0)
    assert ejection.ejected(POOL, 16.9) == ejected


def test_a_trial_that_is_given_up_leaves_room_for_the_next(ejection):
    """The user left: nothing was learned."""
    fail(ejection, "a", 0.0, times=3)
    ejection.drop(ejection.begin("a", 6.0))
    assert ejection.ejected(POOL, 6.0) == frozenset()
    ejection.begin("a", 6.0)
    assert ejection.ejected(POOL, 6.0) == {"a"}


def test_each_ejection_lasts_twice_as_long_up_to_a_bound(ejection):
    """5, 10, 20, 40, 40 seconds; after as long without one it begins anew."""
    lengths_s, now_s = [], 0.0
    fail(ejection, "a", now_s, times=3)
    for _ in range(5):
        begun_s = now_s
        while ejection.ejected(POOL, now_s):
            now_s += 0.5
        lengths_s.append(now_s - begun_s)
        fail(ejection, "a", now_s)
    assert lengths_s == [5.0, 10.0, 20.0, 40.0, 40.0]
    now_s += 40.0
    succeed(ejection, "a", now_s)
    now_s += 41.0
    fail(ejection, "a", now_s, times=3)
    assert ejection.ejected(POOL, now_s + 4.9)
    assert not ejection.ejected(POOL, now_s + 5.0)


def test_what_was_called_before_the_ejection_prolongs_nothing(ejection):
    """A dead engine fails all its calls at once; that is one event."""
    calls = [ejection.begin("a", 0.0) for _ in range(50)]
    assert [ejection.fail(call, 1.0) for call in calls].count(True) == 1
    assert ejection.ejected(POOL, 5.9) == {"a"}
    assert ejection.ejected(POOL, 6.0) == frozenset()


def test_at_most_half_is_ejected_and_the_worst_first(ejection):
    """Three of five are bad: two are masked, the one that was ejected twice among them."""
    fail(ejection, "c", 0.0, times=3)
    fail(ejection, "c", 5.0)
    fail(ejection, "a", 6.0, times=3)
    fail(ejection, "b", 6.0, times=3)
    ejected = ejection.ejected((*POOL, "e"), 6.0)
    assert len(ejected) == 2
    assert "c" in ejected


def test_in_a_panic_nobody_is_ejected(ejection):
    """Three of four are bad: the fault is elsewhere, and the load must not fall on one."""
    for name in "abc":
        fail(ejection, name, 0.0, times=3)
    assert ejection.is_panic(POOL, 0.0)
    assert ejection.ejected(POOL, 0.0) == frozenset()
    assert not ejection.is_panic(POOL, 6.0)


def test_the_only_candidate_is_never_ejected(ejection):
    """Its own error tells more than a refusal."""
    fail(ejection, "a", 0.0, times=3)
    assert ejection.ejected(("a",), 0.0) == frozenset()
    assert ejection.ejected((), 0.0) == frozenset()


events = st.lists(
    st.tuples(
        st.floats(0.0, 10.0),
        st.sampled_from(POOL),
        st.sampled_from(["begin", "succeed", "fail", "fatal", "drop", "answer"]),
    ),
    max_size=80,
)


@given(events=events, max_share=st.floats(0.0, 1.0))
def test_in_every_history_the_bounds_hold(events, max_share):
    """Never more than the share; nobody for ever: after the longest ejection all are back."""
    ejection = Ejection(EjectionRules(max_share=max_share, max_s=40.0))
    now_s, open_calls, views = 0.0, {name: [] for name in POOL}, []
    for pause_s, name, event in events:
        now_s += pause_s
        if event == "begin" or not open_calls[name]:
            open_calls[name].append(ejection.begin(name, now_s))
            continue
        call = open_calls[name][0] if event == "answer" else open_calls[name].pop(0)
        if event == "answer":
            ejection.answer(call)
        elif event == "drop":
            ejection.drop(call)
        elif event == "succeed":
            ejection.succeed(call, now_s)
        else:
            ejection.fail(call, now_s, is_fatal=event == "fatal")
        ejected = ejection.ejected(POOL, now_s)
        assert len(ejected) <= max_share * len(POOL)
        assert not (ejected and ejection.is_panic(POOL, now_s))
        views.append((now_s, ejected))
    assert all(before[0] <= after[0] for before, after in pairwise(views))
    for calls in open_calls.values():
        for call in calls:
            ejection.drop(call)
    assert ejection.ejected(POOL, now_s + 40.0) == frozenset()
