"""A session stays where it was if that costs little, and the propensities stay true."""

import dataclasses
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.dispatching.stickiness import Sessions, stay
from router.records import Decision, Policy, Refusal

NAMES = ("a", "b", "c")


def decision(utilities=(0.50, 0.51, 0.40), propensities=(0.1, 0.8, 0.1), choice="b", **changes):
    """Return a decision among three, by default for b."""
    num = len(NAMES)
    base = Decision(
        decision_id="d",
        router_version="7",
        feature_schema_hash="f",
        candidate_ids=NAMES,
        refusals=(None,) * num,
        quality_means=utilities,
        quality_stds=(0.1,) * num,
        costs_usd=(0.0,) * num,
        latencies_s=(1.0,) * num,
        utilities=utilities,
        choice=choice,
        propensity=propensities[NAMES.index(choice)],
        propensities=propensities,
    )
    return dataclasses.replace(base, **changes)


def test_a_session_stays_where_little_is_lost():
    """0.01 of utility: a answers, with the probability of both."""
    made = stay(decision(), "a", max_loss=0.02)
    assert (made.choice, made.policy) == ("a", Policy.GREEDY)
    assert made.propensities == pytest.approx((0.9, 0.0, 0.1))
    assert made.propensity == pytest.approx(0.9)


def test_an_explored_choice_of_a_worse_one_stays():
    """The session does not end exploration."""
    made = stay(decision(choice="c", policy=Policy.EXPLORE), "a", max_loss=0.02)
    assert (made.choice, made.propensity) == ("c", 0.1)
    assert made.propensities == pytest.approx((0.9, 0.0, 0.1))


@pytest.mark.parametrize(
    ("made", "last"),
    [
        (decision(), None),
        (decision(), "gone"),
        (decision(), "b"),
        (decision(), "c"),
        (decision(refusals=(Refusal.EJECTED, None, None)), "a"),
        (decision(utilities=(float("nan"), 0.51, 0.4), refusals=(Refusal.NO_PROFILE,) * 1
                  + (None, None)), "a"),
        (decision(policy=Policy.BEST_SINGLE), "a"),
        (decision(policy=Policy.FALLBACK, propensities=(0.0, 1.0, 0.0)), "a"),
    ],
)  # fmt: skip
def test_else_the_decision_is_as_it_was(made, last):
    """Nobody before, gone, the same, too much worse, masked, no profile, no draw."""
    kept = stay(made, last, max_loss=0.02)
    assert (kept.choice, kept.propensity) == (made.choice, made.propensity)
    assert kept.propensities == made.propensities


def test_a_cold_decision_is_as_it_was():
    """Without utilities nobody can tell what staying would cost."""
    cold = decision(utilities=())
    assert stay(cold, "a", max_loss=0.5) is cold


def test_a_newcomer_keeps_its_session():
    """Its probation was for the session's first request; it is not masked any more."""
    made = stay(decision(refusals=(Refusal.PROBATION, None, None)), "a", max_loss=0.02)
    assert (made.choice, made.refusals) == ("a", (None, None, None))


@given(
    utilities=st.tuples(*[st.floats(0, 1)] * 3),
    weights=st.tuples(*[st.integers(0, 9)] * 3).filter(any),
    last=st.sampled_from(NAMES),
    max_loss=st.floats(0, 1),
)
def test_propensities_are_those_of_the_map_of_the_draw(utilities, weights, last, max_loss):
    """They sum to one, and mapping every draw gives each candidate just its propensity."""
    p = tuple(float(w) / sum(weights) for w in weights)
    mass = Counter()
    for name, share in zip(NAMES, p, strict=True):
        made = stay(decision(utilities, p, name), last, max_loss=max_loss)
        mass[made.choice] += share
        assert made.propensity == made.propensities[NAMES.index(made.choice)]
        assert sum(made.propensities) == pytest.approx(1.0)
        loss = utilities[NAMES.index(name)] - utilities[NAMES.index(made.choice)]
        assert loss <= max_loss + 1e-12
        if share:
            other = stay(decision(utilities, p, "a"), last, max_loss=max_loss)
            assert made.propensities == other.propensities
    assert [mass[name] for name in NAMES] == pytest.approx(list(made.propensities))


def test_the_oldest_sessions_are_forgotten():
    """Two are remembered, the latest answer of each."""
    sessions = Sessions(max_sessions=2)
    sessions.note("s", "a")
    sessions.note("t", "a")
    sessions.note("s", "b")
    sessions.note("u", "a")
    sessions.note(None, "a")
    assert [sessions.last(name) for name in ("s", "t", "u", None)] == ["b", None, "a", None]
