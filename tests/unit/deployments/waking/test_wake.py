"""Whom missing replicas cost enough is nudged: seldom, within limits, with calls enough."""

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.waking.wake import HOLD_S, Nudge, Wake, WakeRules, idle_calls
from router.candidate import Candidate, Price
from router.records import Capacity, Decision, Pool, Refusal, Standing

RULES = WakeRules(regret=1.0, window_s=60.0, pause_s=30.0)


def standing(name="big", refusal=None, *, running=1, **capacity):
    """Return one candidate's standing; up to four replicas, 8 calls for each."""
    price = Price(input_usd_per_mtok=1.0, output_usd_per_mtok=1.0)
    known = {"max_replicas": 4, "target_ongoing": 8.0, "start_s": 20.0} | capacity
    return Standing(
        candidate=Candidate(id=name, price=price),
        refusal=refusal,
        num_running=running,
        capacity=Capacity(**known),
    )


def cold(name="big", **capacity):
    """Return a candidate that is scaled to zero."""
    return standing(name, Refusal.COLD, running=0, **capacity)


def pool(*standings):
    """Return the pool."""
    return Pool(standings=standings)


def lost(regret=0.5, wanted="big"):
    """Return a decision that lost something."""
    return Decision(
        decision_id="d",
        router_version="7",
        feature_schema_hash="f",
        candidate_ids=("big", "small"),
        refusals=(Refusal.COLD, None),
        choice="small",
        wanted=wanted,
        capacity_regret=regret,
        capacity_regret_quality=2 * regret,
        capacity_regret_usd=-regret,
    )


def test_enough_regret_within_a_minute_starts_the_first_replica():
    """0.5 is not enough, twice is; and once more only after the pause."""
    wake = Wake(RULES)
    wake.note(lost(), 0.0)
    assert wake.due(pool(cold()), 1.0) == []
    wake.note(lost(), 10.0)
    assert wake.due(pool(cold()), 11.0) == [Nudge("big", 1, 0.0)]
    wake.note(lost(5.0), 12.0)
    assert wake.due(pool(cold()), 40.0) == []
    assert wake.due(pool(cold()), 41.0) == [Nudge("big", 1, 0.0)]
    assert wake.status() == {
        "big": {
            "queries": 3,
            "regret": 6.0,
            "regret_quality": 12.0,
            "regret_usd": -6.0,
            "nudges": 2,
        }
    }


def test_regret_is_forgotten():
    """0.9 a minute never nudges."""
    wake = Wake(RULES)
    for minute in range(20):
        wake.note(lost(0.9), 61.0 * minute)
        assert wake.due(pool(cold()), 61.0 * minute) == []


def test_it_can_be_switched_off():
    """The regret is counted all the same."""
    wake = Wake(WakeRules(regret=None))
    wake.note(lost(100.0), 0.0)
    assert wake.due(pool(cold()), 0.0) == []
    assert wake.status()["big"]["regret"] == 100.0


def test_what_was_lost_during_a_start_asks_for_no_second_replica():
    """The first one is the answer to it; what is lost from then on counts."""
    wake = Wake(RULES)
    starting = standing(refusal=Refusal.STARTING, running=0)
    busy = standing(num_in_flight=4)
    for second in range(20):
        wake.note(lost(), second)
        assert wake.due(pool(starting), second) == []
    assert wake.due(pool(busy), 21.0) == []
    wake.note(lost(), 22.0)
    assert wake.due(pool(busy), 23.0) == []
    wake.note(lost(), 24.0)
    assert [nudge.candidate_id for nudge in wake.due(pool(busy), 25.0)] == ["big"]


def test_who_left_the_pool_is_not_nudged():
    """It may come back."""
    wake = Wake(RULES)
    wake.note(lost(2.0), 0.0)
    assert wake.due(pool(), 0.0) == []
    assert wake.due(pool(cold()), 1.0) == [Nudge("big", 1, 0.0)]


def test_a_query_that_nobody_answers_wakes_whoever_starts_soonest():
    """And its user is told when to come back; who will not start is of no use."""
    wake = Wake(RULES)
    seen = pool(cold("slow", start_s=90.0), cold("soon"), cold("never", start_s=None))
    assert wake.note_refused(seen, ["slow", "soon", "never"], 0.0) == 20.0
    assert wake.due(seen, 0.0) == [Nudge("soon", 1, 0.0)]
    assert wake.note_refused(seen, ["never"], 0.0) is None
    assert wake.note_refused(seen, ["slow"], 0.0) == 90.0


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (cold(), 1),
        (cold(max_replicas=None), 0),  # a fixed number
        (cold(max_replicas=0), 0),
        (standing(refusal=Refusal.STARTING, running=0), 0),
        (standing(refusal=Refusal.NO_REPLICA, running=0), 0),
        (standing(refusal=Refusal.DRAINING), 0),
        (standing(running=4), 0),  # as many as it may have
        (standing(num_in_flight=4), 5),  # 9 are more than 8
        (standing(running=2, num_in_flight=4), 13),
        (standing(num_in_flight=9), 0),  # Serve sees it
        (standing(num_in_flight=4, max_ongoing=8), 2),  # half of the room
        (standing(refusal=Refusal.SATURATED, num_in_flight=4), 0),  # an endpoint's own limit
        (standing(refusal=Refusal.SATURATED, num_in_flight=8, max_ongoing=8), 0),
    ],
)
def test_calls_that_make_serve_start_one_more(one, expected):
    """It wants ``ceil(calls / target)`` replicas."""
    assert idle_calls(one) == expected


@given(st.integers(0, 300), st.integers(1, 8), st.floats(0.5, 64.0), st.integers(1, 128))
def test_no_more_calls_than_one_replica_more_needs(num_in_flight, running, target, max_ongoing):
    """And they never fill what queries need."""
    one = standing(
        running=running,
        num_in_flight=num_in_flight,
        target_ongoing=target,
        max_ongoing=max_ongoing,
        max_replicas=99,
    )
    calls = idle_calls(one)
    assert calls >= 0
    if calls:
        assert num_in_flight + calls <= max_ongoing * running
        assert ceil((num_in_flight + calls - 1) / target) <= running
    unbounded = idle_calls(
        standing(
            running=running, num_in_flight=num_in_flight, target_ongoing=target, max_replicas=99
        )
    )
    assert ceil((num_in_flight + unbounded) / target) > running


def test_ingress_replicas_share_the_idle_calls():
    """Two of them make 5 calls as 3 each, for as long as Serve has to see them."""
    wake = Wake(RULES, num_ingresses=2)
    wake.note(lost(2.0), 0.0)
    assert wake.due(pool(standing(num_in_flight=4)), 0.0) == [Nudge("big", 3, HOLD_S)]
    assert wake.due(pool(standing(num_in_flight=4)), RULES.pause_s) == []
