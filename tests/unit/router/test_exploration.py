"""Exploring costs no more than the day allows, and its odds are those it says."""

import json
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from router.choice import choose, propensities
from router.errors import InvalidInputError
from router.exploration import (
    UNLIMITED,
    Draw,
    Exploration,
    ExplorationBudget,
    Regret,
    Stakes,
    odds_of_best,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
unit = arrays(np.float64, 5, elements=st.floats(0.0, 1.0))
some = arrays(np.bool_, 5).filter(lambda mask_M: bool(mask_M.any()))
lefts = st.builds(Regret, st.floats(0.0, 1.0), st.floats(0.0, 1.0))
draws = st.sampled_from(Draw)


def stakes(quality_M, cost_usd_M=None, std_M=None, *, left=UNLIMITED, draw=Draw.UNIFORM):
    """Return the stakes of a pool whose utility is its quality."""
    quality_M = np.asarray(quality_M, dtype=float)
    return Stakes(
        quality_M=quality_M,
        quality_std_M=np.full(len(quality_M), 0.1) if std_M is None else np.asarray(std_M),
        cost_usd_M=np.zeros(len(quality_M)) if cost_usd_M is None else np.asarray(cost_usd_M),
        mean_utility_M=quality_M,
        exploration=Exploration(draw=draw, left=left),
    )


@given(st.tuples(unit, unit, unit), some, lefts, draws, st.floats(0.0, 1.0), st.integers(0, 9999))
def test_no_draw_overruns_what_is_left(predicted, available_M, left, draw, share, seed):
    """Whoever has a chance, the greedy one aside, has a regret within both budgets."""
    quality_M, _, _ = predicted
    at_stake = stakes(*predicted, left=left, draw=draw)
    choice = choose(
        quality_M,
        available_M,
        explore_share=share,
        generator=np.random.default_rng(seed),
        stakes=at_stake,
    )
    p_M = choice.propensities_M
    assert np.isclose(p_M.sum(), 1.0)
    assert (p_M[~available_M] == 0.0).all()
    assert choice.propensity == p_M[choice.index] > 0.0
    greedy = int(np.argmax(np.where(available_M, quality_M, -np.inf)))
    usd_M, regret_M = at_stake.regrets(greedy)
    assert (usd_M[p_M > 0] <= left.usd).all()
    assert (regret_M[p_M > 0] <= left.quality).all()
    assert choice.regret.usd == pytest.approx(p_M @ usd_M)
    assert choice.regret.quality == pytest.approx(p_M @ regret_M)
    budget = ExplorationBudget(left)
    budget.charge(choice.regret, NOON)


def test_expected_regret_in_worked_sums():
    """Share 0.3 over three: quality 0.1 * (0.2 + 0.5), USD 0.1 * 0.03 for the dear one."""
    choice = choose(
        np.array([0.9, 0.7, 0.4]),
        np.ones(3, dtype=bool),
        explore_share=0.3,
        generator=np.random.default_rng(0),
        stakes=stakes([0.9, 0.7, 0.4], [0.01, 0.04, 0.001]),
    )
    assert choice.propensities_M == pytest.approx([0.8, 0.1, 0.1])
    assert (choice.regret.quality, choice.regret.usd) == pytest.approx((0.07, 0.003))


def test_a_spent_budget_leaves_the_greedy_choice():
    """Only who costs no more and is thought no worse may still be drawn."""
    at_stake = stakes([0.9, 0.9, 0.4], [0.02, 0.01, 0.001], left=Regret())
    p_M = propensities(
        np.array([0.95, 0.9, 0.4]), np.ones(3, dtype=bool), explore_share=0.5, stakes=at_stake
    )
    assert p_M == pytest.approx([0.75, 0.25, 0.0])


@given(unit, unit, some)
def test_odds_of_being_best_are_probabilities(utility_M, std_M, drawable_M):
    """They lie on whom may be drawn and sum to one but for the quadrature's error."""
    odds_M = odds_of_best(utility_M, std_M + 0.05, drawable_M)
    assert (odds_M[~drawable_M] == 0.0).all()
    assert (odds_M >= 0.0).all()
    assert odds_M.sum() == pytest.approx(1.0, abs=0.25)


def test_odds_of_being_best_against_a_simulation():
    """Two hundred thousand draws of three normals meet the quadrature within 0.02."""
    mean_M, std_M = np.array([0.7, 0.6, 0.5]), np.array([0.05, 0.1, 0.2])
    draws_NM = np.random.default_rng(0).normal(mean_M, std_M, size=(200_000, 3))
    simulated_M = np.bincount(draws_NM.argmax(axis=1), minlength=3) / len(draws_NM)
    odds_M = odds_of_best(mean_M, std_M, np.ones(3, dtype=bool))
    assert odds_M == pytest.approx(simulated_M, abs=0.02)


def test_who_is_little_known_is_drawn_more():
    """Of two that are thought equally bad, the less certain one has the better odds."""
    odds_M = odds_of_best(
        np.array([0.8, 0.6, 0.6]), np.array([0.02, 0.02, 0.2]), np.ones(3, dtype=bool)
    )
    assert odds_M[1] < 0.001
    assert odds_M[2] > 0.1


@given(
    st.lists(st.tuples(lefts, st.integers(0, 3 * 86_400)), max_size=30),
    st.integers(1, 4),
    st.builds(Regret, st.floats(0.01, 3.0), st.floats(0.01, 3.0)),
)
def test_a_day_never_spends_more_than_its_part(charges, num_replicas, daily):
    """Whatever is asked and whenever, what was granted in one day of UTC stays within the part."""
    budget = ExplorationBudget(daily, num_replicas=num_replicas)
    granted = {}
    for regret, after_s in sorted(charges, key=lambda charge: charge[1]):
        now = NOON + timedelta(seconds=after_s)
        left = budget.left(now)
        if regret.usd <= left.usd and regret.quality <= left.quality:
            budget.charge(regret, now)
            day = granted.setdefault(now.date(), [0.0, 0.0])
            day[0] += regret.usd
            day[1] += regret.quality
        else:
            with pytest.raises(ValueError, match="more than what is left"):
                budget.charge(Regret(left.usd + 1.0, left.quality), now)
    for usd, quality in granted.values():
        assert usd <= daily.usd / num_replicas + 1e-9
        assert quality <= daily.quality / num_replicas + 1e-9


def test_exploring_for_a_day_stays_within_the_budget():
    """Twenty thousand requests at share 0.5 spend the budget and not more."""
    rng = np.random.default_rng(1)
    budget = ExplorationBudget(Regret(0.5, 20.0))
    for _ in range(20_000):
        quality_M, cost_M = rng.random(4), rng.random(4) / 1000
        choice = choose(
            quality_M,
            np.ones(4, dtype=bool),
            explore_share=0.5,
            generator=rng,
            stakes=stakes(quality_M, cost_M, left=budget.left(NOON)),
        )
        budget.charge(choice.regret, NOON)
    left = budget.left(NOON)
    assert budget.spent.quality <= 20.0
    assert left.quality < 0.01
    assert budget.spent.usd <= 0.5


def test_the_day_turns_at_midnight_utc():
    """A clock in another zone turns it at the same instant; one set back does not turn it."""
    budget = ExplorationBudget(Regret(1.0, 1.0))
    budget.charge(Regret(1.0, 0.5), datetime(2026, 3, 1, 23, 59, tzinfo=UTC))
    west = timezone(timedelta(hours=-8))
    assert budget.left(datetime(2026, 3, 1, 15, 59, tzinfo=west)) == Regret(0.0, 0.5)
    assert budget.left(datetime(2026, 3, 1, 16, 0, tzinfo=west)) == Regret(1.0, 1.0)
    budget.charge(Regret(0.25, 0.0), datetime(2026, 3, 2, 1, tzinfo=UTC))
    assert budget.left(datetime(2026, 3, 1, 12, tzinfo=UTC)) == Regret(0.75, 1.0)


def test_a_restarted_replica_goes_on_where_the_last_one_died():
    """The state survives JSON; the next day begins anew all the same."""
    budget = ExplorationBudget(Regret(1.0, 8.0), num_replicas=2)
    budget.charge(Regret(0.25, 3.0), NOON)
    heir = ExplorationBudget(Regret(1.0, 8.0), num_replicas=2)
    heir.restore(json.loads(json.dumps(budget.to_json())))
    assert heir.left(NOON) == Regret(0.25, 1.0)
    assert heir.left(NOON + timedelta(days=1)) == Regret(0.5, 4.0)


@pytest.mark.parametrize(
    "record",
    [{}, {"day": "x", "usd": 0, "quality": 0}, {"day": "2026-03-01", "usd": -1, "quality": 0}],
)
def test_a_state_that_cannot_be_read_is_refused(record):
    """Nothing of it is taken over."""
    budget = ExplorationBudget(Regret(1.0, 1.0))
    with pytest.raises(InvalidInputError, match="cannot be read"):
        budget.restore(record)
    assert budget.spent == Regret()


def test_numbers_out_of_bounds_are_refused():
    """A negative regret and no replica."""
    with pytest.raises(InvalidInputError, match="0 or more"):
        Regret(-1.0, 0.0)
    with pytest.raises(InvalidInputError, match="1 or more"):
        ExplorationBudget(UNLIMITED, num_replicas=0)
