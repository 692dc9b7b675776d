"""Waiting grows with the load, and what missing replicas cost is counted."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from score_tables import TableScorer, profile

from router.candidate import Candidate, Price
from router.capacity import is_full, queue_wait_s, wait_s
from router.errors import NoCandidateError
from router.floor import DROPS_L, SLACKS_S, Floor
from router.probation import Probation
from router.records import Capacity, Pool, QueryShape, Refusal, Routing, Standing
from router.route import Router, route
from router.utility import Reference

SHAPE = QueryShape(num_chars=80, num_images=1)
TABLE = {"best": (0.9, 0.004, 2.0), "good": (0.85, 0.002, 2.0), "poor": (0.3, 0.001, 1.0)}
"""Quality, cost in USD and latency in seconds."""

loads = st.integers(0, 500)
seconds = st.floats(0.001, 100.0)

ROUTER = Router(
    version="7",
    feature_schema_hash="f" * 64,
    scorer=TableScorer(TABLE),
    profiles={name: profile(name) for name in TABLE},
    reference=Reference(cost_usd=0.004, latency_s=2.0),
)


def standing(name, refusal=None, *, running=1, **capacity):
    """Return one candidate's standing."""
    price = Price(input_usd_per_mtok=1.0, output_usd_per_mtok=1.0)
    return Standing(
        candidate=Candidate(id=name, price=price),
        refusal=refusal,
        num_running=0 if refusal in (Refusal.COLD, Refusal.STARTING) else running,
        capacity=Capacity(**capacity),
    )


def decide(*standings, router=ROUTER, best_single=False, **wishes):
    """Route the standard query."""
    return route(
        router,
        np.zeros(2, dtype=np.float32),
        SHAPE,
        pool=Pool(standings=standings),
        routing=Routing(**wishes),
        decision_id="d1",
        seed=0,
        best_single=best_single,
    )


@pytest.mark.parametrize(
    ("in_flight", "expected_s"),
    [(0, 0.0), (3, 0.0), (4, 0.5), (5, 1.0), (12, 4.5)],
)
def test_the_wait_in_worked_sums(in_flight, expected_s):
    """Four slots of 2 s: one is free every 0.5 s, and 12 before it leave after 9 of those."""
    assert queue_wait_s(in_flight, 4, 2.0) == expected_s


@given(loads, loads, st.integers(1, 64), st.integers(1, 64), seconds)
def test_the_wait_is_monotone(load, more, slots, more_slots, service_s):
    """More before it never shortens the wait, more slots never lengthen it."""
    wait = queue_wait_s(load, slots, service_s)
    assert wait >= 0.0
    assert queue_wait_s(load + more, slots, service_s) >= wait
    assert queue_wait_s(load, slots + more_slots, service_s) <= wait
    assert queue_wait_s(load, slots, 2 * service_s) >= wait


def test_a_queue_agrees_with_a_simulation():
    """Exponential service, all slots busy and 6 waiting: the mean over 20,000 queues."""
    num_slots, num_in_flight, service_s = 3, 9, 2.0
    rng = np.random.default_rng(0)
    gaps = rng.exponential(service_s / num_slots, (20_000, num_in_flight - num_slots + 1))
    expected_s = queue_wait_s(num_in_flight, num_slots, service_s)
    assert gaps.sum(axis=1).mean() == pytest.approx(expected_s, rel=0.02)


def test_slow_first_tokens_are_a_wait():
    """The longer of the two estimates counts; without slots there is no queue to compute."""
    assert wait_s(standing("best", num_slots=1, num_in_flight=2, slow_start_s=1.0), 2.0) == 4.0
    assert wait_s(standing("best", num_slots=1, num_in_flight=2, slow_start_s=5.0), 2.0) == 5.0
    assert wait_s(standing("best", num_in_flight=500), 2.0) == 0.0


def test_a_start_is_a_wait():
    """Whoever has no replica is as far away as its start."""
    assert wait_s(standing("best", Refusal.COLD, start_s=30.0), 2.0) == 30.0
    assert wait_s(standing("best", Refusal.NO_REPLICA, running=0), 2.0) == 0.0


def test_full_is_what_serve_lets_in():
    """By the number of replicas; nothing is full of which that is not known."""
    assert is_full(standing("best", max_ongoing=4, num_in_flight=4))
    assert not is_full(standing("best", max_ongoing=4, num_in_flight=4, running=2))
    assert not is_full(standing("best", num_in_flight=10_000))
    assert not is_full(standing("best", Refusal.COLD, max_ongoing=4, num_in_flight=9))


def busy(num_in_flight):
    """Return the best candidate with four slots and a load, and the others free."""
    best = standing("best", num_slots=4, num_in_flight=num_in_flight)
    return best, standing("good"), standing("poor")


def test_a_free_model_beats_a_saturated_better_one_if_latency_is_weighed():
    """0.9 - 0.1 * 1 = 0.8 against 0.85 - 0.1 = 0.75; two before it: 0.8 - 0.1 * 0.5 = 0.75."""
    assert decide(*busy(0), latency_weight=0.1).choice == "best"
    assert decide(*busy(40), latency_weight=0.1).choice == "good"
    assert decide(*busy(40)).choice == "best"
    full = dataclasses.replace(busy(40)[0], refusal=Refusal.SATURATED)
    assert decide(full, *busy(40)[1:]).choice == "good"


@given(loads, loads, st.floats(0.0, 1.0))
def test_load_never_helps(load, more, latency_weight):
    """Utility falls with the load of a candidate, and nobody else's changes."""
    few = decide(*busy(load), latency_weight=latency_weight)
    many = decide(*busy(load + more), latency_weight=latency_weight)
    assert many.utilities[0] <= few.utilities[0]
    assert many.utilities[1:] == few.utilities[1:]
    assert many.quality_means == few.quality_means
    assert not (few.choice != "best" and many.choice == "best")


def test_the_latency_cap_counts_the_queue():
    """2 s of work, 18.5 s of waiting; with a free replica it would do, so it is wanted."""
    decision = decide(*busy(40), max_latency_s=10.0)
    assert decision.refusals[0] is Refusal.OVER_LATENCY_CAP
    assert (decision.choice, decision.wanted) == ("good", "best")
    assert decision.latencies_s[0] == pytest.approx(20.5)
    assert decision.waits_s == (18.5, 0.0, 0.0)
    assert decide(*busy(40), max_latency_s=1.5).wanted == ""


def test_the_regret_of_a_cold_candidate():
    """0.9 instead of 0.85 for 0.002 USD more; with a weight of 0.04 the regret is 0.05 - 0.02."""
    cold = standing("best", Refusal.COLD, start_s=60.0)
    decision = decide(cold, standing("good"), standing("poor"), cost_weight=0.04)
    assert (decision.choice, decision.wanted) == ("good", "best")
    assert decision.capacity_regret == pytest.approx(0.03)
    assert decision.capacity_regret_quality == pytest.approx(0.05)
    assert decision.capacity_regret_usd == pytest.approx(-0.002)
    assert decision.latencies_s[0] == pytest.approx(62.0)
    assert decision.propensities[0] == 0.0


def test_a_queue_of_the_choice_itself_is_regretted():
    """5 before it, two too many: 1 s of waiting at 0.02 a reference of 2 s."""
    decision = decide(*busy(5), latency_weight=0.02)
    assert (decision.choice, decision.wanted) == ("best", "best")
    assert decision.capacity_regret == pytest.approx(0.02 * 1.0 / 2.0)
    assert decision.capacity_regret_quality == decision.capacity_regret_usd == 0.0


@pytest.mark.parametrize(
    ("refusal", "wishes"),
    [
        (Refusal.DRAINING, {}),
        (Refusal.EJECTED, {}),
        (Refusal.COLD, {"deny": ("best",)}),
        (Refusal.COLD, {"max_cost_usd": 0.003}),
        (Refusal.COLD, {"cost_weight": 1.0}),
    ],
)
def test_who_would_not_have_been_chosen_is_not_wanted(refusal, wishes):
    """Drained on purpose, failing, denied, too dear, or of less utility."""
    decision = decide(standing("best", refusal), standing("good"), standing("poor"), **wishes)
    assert (decision.wanted, decision.capacity_regret) == ("", 0.0)


def test_without_a_shortage_nothing_is_lost():
    """Also for whoever has no profile, and for the kill switch."""
    assert decide(standing("best"), standing("good")).wanted == ""
    unknown = dataclasses.replace(ROUTER, profiles={"good": profile("good")})
    assert decide(standing("best", Refusal.COLD), standing("good"), router=unknown).wanted == ""
    killed = decide(standing("best", Refusal.COLD), standing("good"), best_single=True)
    assert killed.wanted == ""


def test_the_regret_of_a_floor_is_in_cost():
    """The cheap one is cold: 0.002 USD instead of 0.004, half a reference."""
    floor = Floor(
        risk_SL=np.repeat(SLACKS_S[:, None] > 0.1, len(DROPS_L), axis=1).astype(np.float32),
        num_queries=99,
    )
    router = dataclasses.replace(ROUTER, floor=floor)
    cold = standing("good", Refusal.COLD), standing("poor", Refusal.COLD)
    decision = decide(standing("best"), *cold, router=router, max_quality_drop=0.05)
    assert (decision.choice, decision.wanted) == ("best", "good")
    assert decision.capacity_regret == pytest.approx(0.5, abs=1e-6)
    assert decision.capacity_regret_usd == pytest.approx(0.002)


def test_a_newcomers_regret_counts_as_often_as_it_is_eligible():
    """A tenth of the queries."""
    allowed = Probation(cap=0.1, caution=0.0)
    router = dataclasses.replace(ROUTER, probation={"best": allowed})
    decision = decide(standing("best", Refusal.COLD), standing("good"), router=router)
    assert decision.wanted == "best"
    assert decision.capacity_regret == pytest.approx(0.005)


def test_whoever_starts_may_be_let_in():
    """Its start counts in latency and against the cap, and the sooner one is chosen."""
    late, soon = (
        standing("best", start_s=50.0, running=0),
        standing("good", start_s=5.0, running=0),
    )
    assert decide(late, soon, latency_weight=0.1).choice == "good"
    assert decide(late, soon, max_latency_s=20.0).choice == "good"
    with pytest.raises(NoCandidateError, match="over_latency_cap"):
        decide(late, max_latency_s=20.0)
