"""A newcomer gets no more than its cap, and the propensity counts the draw."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from router.choice import choose, propensities
from router.errors import InvalidInputError
from router.probation import Terms, cap, eligible_sets, spread
from router.records import Policy

unit = arrays(np.float64, 5, elements=st.floats(0.0, 1.0))
caps = arrays(np.float64, 5, elements=st.sampled_from([0.0, 0.05, 0.3, 1.0]) | st.floats(0.0, 1.0))
some = arrays(np.bool_, 5).filter(lambda mask_M: bool(mask_M.any()))
shares = st.floats(0.0, 1.0)
TERMS = Terms(base_share=0.1, caution=1.0)


@given(some, caps)
def test_each_newcomer_is_eligible_for_its_cap(available_M, cap_M):
    """The sets' weights sum to one, and those that hold a candidate to its cap."""
    sets = list(eligible_sets(available_M, cap_M))
    assert sum(weight for weight, _ in sets) == pytest.approx(1.0)
    assert len(sets) <= 1 + len(set(cap_M.tolist()))
    share_M = sum(weight * eligible_M for weight, eligible_M in sets)
    is_alone = not (available_M & (cap_M >= 1.0)).any()
    expected_M = np.where(available_M, 1.0 if is_alone else cap_M, 0.0)
    assert share_M == pytest.approx(expected_M)
    assert all(eligible_M.any() for _, eligible_M in sets)


@given(unit, some, caps, shares)
def test_newcomers_together_have_at_most_the_largest_cap(utilities_M, available_M, cap_M, share):
    """However good they are thought, if anybody else is available."""
    p_M = propensities(utilities_M, available_M, explore_share=share, cap_M=cap_M)
    assert p_M.sum() == pytest.approx(1.0)
    assert (p_M[~available_M] == 0.0).all()
    newcomer_M = available_M & (cap_M < 1.0)
    if newcomer_M.any() and (available_M & ~newcomer_M).any():
        assert p_M[newcomer_M].sum() <= cap_M[newcomer_M].max() + 1e-9
        assert (p_M <= cap_M + 1e-9).all()


@given(unit, some, caps, shares, st.integers(0, 9999))
def test_a_draw_carries_the_propensity_over_both_draws(
    utilities_M, available_M, cap_M, share, seed
):
    """Who is chosen was left by the probation draw."""
    options = {"explore_share": share, "cap_M": cap_M}
    choice = choose(utilities_M, available_M, generator=np.random.default_rng(seed), **options)
    p_M = propensities(utilities_M, available_M, **options)
    assert choice.eligible_M[choice.index]
    assert choice.propensity == p_M[choice.index] > 0.0


def test_propensities_over_both_draws_in_worked_sums():
    """Caps 0.2 and 0.5, share 0.3.

    With 0.2 all three: 0.1 each and 0.7 to c; with 0.3 a and b: 0.15 each and 0.7 to b; with 0.5
    a alone.
    """
    p_M = propensities(
        np.array([0.5, 0.7, 0.9]),
        np.ones(3, dtype=bool),
        explore_share=0.3,
        cap_M=np.array([1.0, 0.5, 0.2]),
    )
    assert p_M == pytest.approx([0.02 + 0.045 + 0.5, 0.02 + 0.255, 0.16])


def test_candidates_are_chosen_as_often_as_their_propensity_says():
    """Over 20,000 draws each frequency lies within four standard errors."""
    options = {"explore_share": 0.2, "cap_M": np.array([1.0, 0.4, 0.1, 1.0])}
    utilities_M, available_M = np.array([0.5, 0.9, 0.7, 0.2]), np.ones(4, dtype=bool)
    rng, num = np.random.default_rng(3), 20_000
    chosen = [choose(utilities_M, available_M, generator=rng, **options).index for _ in range(num)]
    p_M = propensities(utilities_M, available_M, **options)
    frequency_M = np.bincount(chosen, minlength=4) / num
    assert (np.abs(frequency_M - p_M) <= 4 * np.sqrt(p_M * (1 - p_M) / num)).all()


def test_newcomers_alone_answer_all():
    """A query is answered first; there is nobody whose traffic a cap could spare."""
    choice = choose(
        np.array([0.5, 0.9]),
        np.array([True, True]),
        explore_share=0.0,
        generator=np.random.default_rng(0),
        cap_M=np.array([0.0, 0.05]),
    )
    assert (choice.index, choice.propensity, choice.policy) == (1, 1.0, Policy.GREEDY)


def test_the_cap_in_worked_sums():
    """Prior 0.2, usual 0.1: a std of 0.16 has learned (0.04 - 0.0256) / 0.03 = 0.48."""

    def of(std):
        return cap(std, prior_std=0.2, usual_std=0.1, terms=TERMS)

    assert of(0.2) == pytest.approx(0.1)
    assert of(0.16) == pytest.approx(0.1 + 0.9 * 0.48)
    assert of(0.1) == of(0.05) == 1.0
    assert of(0.3) == 0.0
    assert spread((0.3, 0.4)) == pytest.approx(0.125**0.5)


@given(st.floats(0.01, 0.5), st.floats(0.01, 0.5), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_the_cap_grows_as_the_interval_shrinks(prior_std, usual_std, one, other):
    """For any router, less spread means no smaller share."""
    wide, narrow = max(one, other), min(one, other)
    shares = [
        cap(std, prior_std=prior_std, usual_std=usual_std, terms=TERMS) for std in (wide, narrow)
    ]
    assert 0.0 <= shares[0] <= shares[1] <= 1.0


@pytest.mark.parametrize("terms", [{"base_share": 1.1}, {"base_share": -0.1}, {"caution": -2.1}])
def test_terms_out_of_bounds_are_refused(terms):
    """A share is one; curiosity has an end."""
    with pytest.raises(InvalidInputError):
        Terms(**terms)
