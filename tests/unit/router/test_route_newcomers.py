"""From features to a decision: newcomers have their share, and no more."""

import dataclasses

import pytest
from score_tables import ABC, TABLE, decide, floor, router

from router.probation import Probation
from router.records import Refusal


def with_newcomer(table, name, *, cap, caution=0.0, **options):
    """Return a router to which one candidate came later."""
    terms = {name: Probation(cap=cap, caution=caution)}
    return dataclasses.replace(router(table, **options), probation=terms)


def test_a_newcomer_is_masked_as_often_as_its_cap_says():
    """The best candidate is chosen in its share; else it is refused as on probation."""
    one = with_newcomer(TABLE, "b", cap=0.25)
    decisions = [decide(one, ABC, seed=seed) for seed in range(400)]
    chosen = [d for d in decisions if d.choice == "b"]
    assert 60 <= len(chosen) <= 140
    assert {d.propensity for d in chosen} == {0.25}
    rest = [d for d in decisions if d.choice != "b"]
    assert {(d.choice, d.propensity, d.refusals[1]) for d in rest} == {
        ("c", 0.75, Refusal.PROBATION)
    }
    for decision in decisions:
        assert decision.propensities == pytest.approx((0.0, 0.25, 0.75))
        assert decision.is_available == (True, True, True)


def test_who_is_drawn_out_comes_last_in_the_ranking():
    """It answers before an error is told."""
    one = with_newcomer(TABLE, "b", cap=0.0)
    decision = decide(one, ABC)
    assert decision.ranking == ("c", "a", "b")
    assert (decision.greedy, decision.propensity) == ("c", 1.0)


def test_a_newcomer_competes_with_its_own_caution():
    """0.9 - 3 * 0.1 = 0.6 is less than 0.7; the others keep the request's caution of 0."""
    one = with_newcomer(TABLE, "b", cap=0.5, caution=3.0)
    decision = decide(one, ABC)
    assert decision.choice == "c"
    assert decision.utilities == pytest.approx((0.4, 0.6, 0.7))
    assert decide(one, ABC, caution=4.0).utilities == pytest.approx((0.0, 0.5, 0.3))


def test_a_newcomer_is_tried_where_it_may_be_the_best():
    """0.4 + 4 * 0.1 = 0.8 beats 0.7, but not for who asks for caution, nor against a floor."""
    one = with_newcomer(TABLE, "a", cap=0.999, caution=-4.0, floor=floor(0.0))
    assert decide(one, (ABC[0], ABC[2]), seed=1).choice == "a"
    assert decide(one, (ABC[0], ABC[2]), seed=1, caution=0.1).choice == "c"
    assert decide(one, (ABC[0], ABC[2]), seed=1, max_quality_drop=0.1).refusals == (
        Refusal.BELOW_FLOOR,
        None,
    )


def test_a_newcomer_sets_no_floor_and_reaches_it_with_caution():
    """The floor is c's 0.7; b reaches 0.9 - 1 * 0.1, or 0.9 - 3 * 0.1 < 0.7 and is refused."""
    wish = {"max_quality_drop": 0.1}
    for caution, refused in ((1.0, None), (3.0, Refusal.BELOW_FLOOR)):
        one = with_newcomer(TABLE, "b", cap=0.999, caution=caution, floor=floor(0.0))
        decision = decide(one, ABC, seed=1, **wish)
        assert decision.refusals == (Refusal.BELOW_FLOOR, refused, None)
