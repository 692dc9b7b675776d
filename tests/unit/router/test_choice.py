"""Choice never leaves the mask, and happens as often as it says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from router.choice import choose, propensities
from router.records import Policy

utility = arrays(np.float64, 5, elements=st.floats(-1.0, 1.0))
masks = arrays(np.bool_, 5)
some = masks.filter(lambda mask_M: bool(mask_M.any()))
shares = st.floats(0.0, 1.0)
seeds = st.integers(0, 2**32 - 1)


@given(utility, some, shares)
def test_mass_stays_inside_the_mask(utilities_M, available_M, share):
    """All probability lies on available candidates and sums to one."""
    p_M = propensities(utilities_M, available_M, explore_share=share)
    assert np.isclose(p_M.sum(), 1.0)
    assert (p_M >= 0.0).all()
    assert (p_M[~available_M] == 0.0).all()


@given(utility, some, shares.filter(bool))
def test_exploring_leaves_nobody_out(utilities_M, available_M, share):
    """Each available candidate has at least its part of the share, so every one can be learned."""
    p_M = propensities(utilities_M, available_M, explore_share=share)
    assert (p_M[available_M] >= share / available_M.sum()).all()


@given(utility, some, seeds)
def test_without_exploring_the_best_available_is_certain(utilities_M, available_M, seed):
    """At share 0 the choice is the best in the mask, with propensity 1, whatever the seed."""
    generator = np.random.default_rng(seed)
    choice = choose(utilities_M, available_M, explore_share=0.0, generator=generator)
    assert available_M[choice.index]
    assert utilities_M[choice.index] == utilities_M[available_M].max()
    assert (choice.propensity, choice.policy) == (1.0, Policy.GREEDY)


@given(utility, some, shares, seeds)
def test_a_draw_carries_its_own_propensity(utilities_M, available_M, share, seed):
    """Who is drawn is available, and its propensity is the one of the distribution."""
    generator = np.random.default_rng(seed)
    choice = choose(utilities_M, available_M, explore_share=share, generator=generator)
    p_M = propensities(utilities_M, available_M, explore_share=share)
    assert available_M[choice.index]
    assert choice.propensity == p_M[choice.index] > 0.0


@given(masks, masks)
def test_what_is_masked_does_not_matter(available_M, junk_M):
    """NaN and infinity outside the mask change nothing."""
    available_M[0] = True
    utilities_M = np.linspace(0.0, 1.0, 5)
    junked_M = np.where(available_M, utilities_M, np.where(junk_M, np.nan, np.inf))
    plain_M, other_M = (
        propensities(values_M, available_M, explore_share=0.1)
        for values_M in (utilities_M, junked_M)
    )
    assert np.array_equal(plain_M, other_M)


def test_propensities_in_worked_sums():
    """Share 0.3 over three available: 0.1 each, and 0.7 more for the best of them."""
    p_M = propensities(
        np.array([0.9, 0.2, 0.5, 0.4]), np.array([False, True, True, True]), explore_share=0.3
    )
    assert p_M == pytest.approx([0.0, 0.1, 0.8, 0.1])


def test_candidates_are_chosen_as_often_as_their_propensity_says():
    """Over 6,000 seeds each frequency lies within four standard errors of its propensity."""
    utilities_M = np.array([0.2, 0.9, 0.5, 0.8])
    available_M = np.array([True, True, False, True])
    num = 6000
    drawn = [
        choose(utilities_M, available_M, explore_share=0.45, generator=np.random.default_rng(seed))
        for seed in range(num)
    ]
    p_M = propensities(utilities_M, available_M, explore_share=0.45)
    frequency_M = np.bincount([choice.index for choice in drawn], minlength=4) / num
    assert (np.abs(frequency_M - p_M) <= 4 * np.sqrt(p_M * (1 - p_M) / num)).all()
    explored = np.mean([choice.policy is Policy.EXPLORE for choice in drawn])
    assert abs(explored - 0.45) <= 4 * np.sqrt(0.45 * 0.55 / num)


def test_a_draw_that_meets_the_best_is_still_exploring():
    """The policy tells how the choice came about, not whom it met."""
    choices = [
        choose(
            np.array([0.1, 0.9]),
            np.array([True, True]),
            explore_share=1.0,
            generator=np.random.default_rng(seed),
        )
        for seed in range(20)
    ]
    assert {choice.index for choice in choices} == {0, 1}
    assert {choice.policy for choice in choices} == {Policy.EXPLORE}
    assert {choice.propensity for choice in choices} == {0.5}


@given(utility, shares)
def test_an_empty_mask_is_refused(utilities_M, share):
    """No available candidate is an error, never a guess."""
    nobody_M = np.zeros(5, dtype=bool)
    with pytest.raises(ValueError, match="no available candidate"):
        propensities(utilities_M, nobody_M, explore_share=share)
    with pytest.raises(ValueError, match="no available candidate"):
        choose(utilities_M, nobody_M, explore_share=share, generator=np.random.default_rng(0))
