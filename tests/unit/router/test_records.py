"""The records say what they hold: rankings, availability, bounds."""

import dataclasses
import pickle

import numpy as np
import pytest

from router.candidate import Candidate, Price
from router.errors import InvalidInputError
from router.records import Decision, Policy, Pool, Refusal, Routing, Standing

NAN = float("nan")
PRICE = Price(input_usd_per_mtok=1.0, output_usd_per_mtok=1.0)


def decision(**changes):
    """Return a decision over four candidates, of which the second is masked."""
    fields = {
        "decision_id": "d1",
        "router_version": "7",
        "feature_schema_hash": "f" * 64,
        "candidate_ids": ("a", "b", "c", "d"),
        "refusals": (None, Refusal.COLD, None, None),
        "quality_means": (0.2, 0.9, 0.6, 0.4),
        "utilities": (0.1, 0.9, 0.5, 0.3),
        "choice": "c",
    }
    return Decision(**{**fields, **changes})


def test_the_ranking_is_the_available_by_falling_utility():
    """A masked candidate is not in it, however useful."""
    assert decision().ranking == ("c", "d", "a")


def test_an_explored_choice_leads_its_ranking():
    """Whatever was drawn is tried first, and once."""
    assert decision(choice="a", policy=Policy.EXPLORE).ranking == ("a", "c", "d")


def test_without_utilities_the_pool_orders_the_rest():
    """A choice made without a router falls back in the order of the pool."""
    plain = decision(choice="d", utilities=(), quality_means=(), policy=Policy.FALLBACK)
    assert plain.ranking == ("d", "a", "c")


def test_an_unscored_candidate_does_not_disturb_the_ranking():
    """NaN stands only where there is no profile, which is masked."""
    holed = decision(
        utilities=(0.1, NAN, 0.5, 0.3), refusals=(None, Refusal.NO_PROFILE, None, None)
    )
    assert holed.ranking == ("c", "d", "a")


def test_availability_is_the_absence_of_a_refusal():
    """One truth value per candidate, in the order of the pool."""
    assert decision().is_available == (True, False, True, True)


def test_the_predicted_quality_is_that_of_the_choice():
    """It is unknown where no router predicted."""
    assert decision().predicted_quality == 0.6
    assert decision(quality_means=()).predicted_quality is None


def test_a_decision_crosses_processes_whole():
    """It comes out of a pickle equal, features included; equality itself ignores them."""
    features_F = np.arange(3, dtype=np.float32)
    copy = pickle.loads(pickle.dumps(decision(features_F=features_F)))  # noqa: S301 - made here
    assert copy == decision()
    assert np.array_equal(copy.features_F, features_F)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("cost_weight", -0.1),
        ("cost_weight", NAN),
        ("latency_weight", -1.0),
        ("latency_weight", NAN),
        ("caution", -0.5),
        ("caution", NAN),
        ("max_quality_drop", -0.1),
        ("max_quality_drop", 1.1),
        ("max_quality_drop", NAN),
        ("explore_share", 1.1),
        ("explore_share", -0.1),
        ("explore_share", NAN),
    ],
)
def test_wishes_outside_their_bounds_are_refused(field, value):
    """The message holds field and value."""
    with pytest.raises(InvalidInputError, match=f"{field} must be .* got {value}") as caught:
        Routing(**{field: value})
    assert caught.value.field.endswith(field)


@pytest.mark.parametrize("confidence", [0.0, 1.0, -1.0, NAN])
def test_certainty_is_no_confidence(confidence):
    """No number of queries vouches for all; none at all asks for nothing."""
    with pytest.raises(InvalidInputError, match=f"between 0 and 1, got {confidence}") as caught:
        Routing(confidence=confidence)
    assert caught.value.field == "routing.confidence"


@pytest.mark.parametrize("drop", [None, 0.0, 1.0])
def test_a_drop_may_lie_on_its_bounds(drop):
    """No floor, the best alone and anyone at all are wishes too."""
    assert Routing(max_quality_drop=drop).max_quality_drop == drop


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_share_may_lie_on_its_bounds(share):
    """Never and always are shares too."""
    assert Routing(explore_share=share).explore_share == share


def test_a_pool_finds_its_candidates_by_id():
    """Order is kept; a stranger has no standing."""
    standings = tuple(
        Standing(candidate=Candidate(id=name, price=PRICE), num_running=running)
        for name, running in (("b", 2), ("a", 1))
    )
    pool = Pool(standings=standings)
    assert [candidate.id for candidate in pool.candidates] == ["b", "a"]
    assert pool.standing("a").num_running == 1
    assert pool.standing("stranger") is None


def test_the_greedy_choice_is_the_best_that_no_draw_took_out():
    """Without predictions, as for a pinned request, it is the choice."""
    decision = Decision(
        decision_id="d",
        router_version="7",
        feature_schema_hash="f",
        candidate_ids=("a", "b", "c"),
        refusals=(None, Refusal.PROBATION, None),
        utilities=(0.2, 0.9, 0.5),
        choice="a",
    )
    assert decision.greedy == "c"
    assert dataclasses.replace(decision, utilities=()).greedy == "a"
