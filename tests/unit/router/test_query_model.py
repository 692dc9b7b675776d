"""The query model: a price says something, outcomes say more, and the rest is least squares.

Axis legend: N = queries, A = anchors, R = basis functions, K = kinds.
"""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.anchors import Anchors
from router.candidate import Price
from router.errors import ArtifactError, InvalidInputError
from router.query_model import FEW_OUTCOMES, LevelPrior, QueryModel, reference_cost_usd

ANCHORS = Anchors(
    points_AD=np.eye(3, 2, dtype=np.float32),
    is_text_D=np.array([True, False]),
    num_blocks_2=(1, 1),
    basis_AR=np.eye(3, dtype=np.float32),
    centre_R=np.zeros(3, dtype=np.float32),
)
PRIOR = LevelPrior(mean=0.1, per_decade=0.2, centre=-3.0, std=0.1)
MODEL = QueryModel(
    anchors=ANCHORS,
    difficulty_R=np.array([0.5, 0.1, -0.1, 0.0], dtype=np.float32),
    energy_KR=np.array([[1.0, 0.5, 0.2, 0.1], [1.0, 0.1, 0.2, 0.9]], dtype=np.float32),
    token_penalty=4.0,
    noise_std=0.4,
    level_prior=PRIOR,
)
DEAR = Price(input_usd_per_mtok=12.0, output_usd_per_mtok=20.0)


def outcomes(seed, num_rows):
    """Return a basis, scores and weights."""
    rng = np.random.default_rng(seed)
    basis_NR = np.column_stack([np.ones(num_rows), rng.normal(size=(num_rows, 3))])
    score_N, weight_N = rng.random(num_rows), rng.uniform(0.2, 1.0, num_rows)
    return tuple(array.astype(np.float32) for array in (basis_NR, score_N, weight_N))


def test_a_price_places_a_level_on_a_line():
    """500 * 12 + 200 * 20 = 10,000 USD per million is 0.01 USD: 0.1 + 0.2 * (-2 + 3) = 0.3."""
    assert reference_cost_usd(DEAR) == pytest.approx(0.01)
    assert PRIOR.level(DEAR) == pytest.approx(0.3)
    assert MODEL.prior_token(DEAR) == pytest.approx([0.3, 0.0, 0.0, 0.0])


@pytest.mark.parametrize("price", [None, Price(input_usd_per_mtok=0.0, output_usd_per_mtok=0.0)])
def test_without_a_price_the_level_is_the_mean(price):
    """Unknown and free candidates lie on no line of logarithms."""
    assert PRIOR.level(price) == 0.1


def test_no_outcome_leaves_the_prior():
    """The token is the price's; the deviation is 0.4 * sqrt(energy @ 1 / (16, 4, 4, 4))."""
    token_R, std_K = MODEL.estimate_token(*outcomes(0, 0), DEAR)
    assert token_R == pytest.approx([0.3, 0.0, 0.0, 0.0])
    assert MODEL.penalties() == pytest.approx([16.0, 4.0, 4.0, 4.0])
    assert std_K == pytest.approx(0.4 * np.sqrt([1 / 16 + 0.8 / 4, 1 / 16 + 1.2 / 4]))


@given(st.integers(0, 1000), st.integers(1, 80))
def test_a_token_is_the_posterior_mode(seed, num_rows):
    """Prior + (BᵀWB + P)⁻¹ BᵀW (y - B (difficulty + prior)), in double precision.

    P holds all but the level back while outcomes are few; the deviation does without that.
    """
    basis_NR, score_N, weight_N = outcomes(seed, num_rows)
    token_R, std_K = MODEL.estimate_token(basis_NR, score_N, weight_N, DEAR)
    prior_R = MODEL.prior_token(DEAR).astype(np.float64)
    gram_RR = basis_NR.T @ (weight_N[:, None] * basis_NR)
    held = 1 + (FEW_OUTCOMES / max(weight_N.sum(), 1.0)) ** 2
    held_R = MODEL.penalties() * np.where(np.arange(4) > 0, held, 1.0)
    left_RR = gram_RR + np.diag(held_R)
    missed_N = score_N - basis_NR @ (MODEL.difficulty_R + prior_R)
    step_R = np.linalg.solve(left_RR, basis_NR.T @ (weight_N * missed_N))
    assert token_R == pytest.approx(prior_R + step_R, abs=1e-3)
    expected_K = 0.4 * np.sqrt(MODEL.energy_KR @ (1.0 / (np.diag(gram_RR) + MODEL.penalties())))
    assert std_K == pytest.approx(expected_K, rel=1e-4)


@given(st.integers(0, 1000), st.integers(0, 40), st.integers(1, 40))
def test_the_deviation_falls_with_outcomes(seed, num_few, num_more):
    """Whatever they say, more of them teach more."""
    basis_NR, score_N, weight_N = outcomes(seed, num_few + num_more)
    few, many = (
        MODEL.estimate_token(basis_NR[:n], score_N[:n], weight_N[:n], None)[1]
        for n in (num_few, num_few + num_more)
    )
    assert (many < few).all()


def test_many_outcomes_overrule_the_price():
    """A dear candidate that fails a thousand times is known as bad."""
    basis_NR, _, _ = outcomes(0, 1000)
    failures_N, ones_N = np.zeros(1000, np.float32), np.ones(1000, np.float32)
    token_R, _ = MODEL.estimate_token(basis_NR, failures_N, ones_N, DEAR)
    assert np.abs(basis_NR @ (MODEL.difficulty_R + token_R)).mean() < 0.03


def test_a_round_trip_keeps_every_bit():
    """Arrays and anchors give the same model back."""
    again = QueryModel.from_arrays(MODEL.to_arrays(), ANCHORS)
    assert np.array_equal(again.difficulty_R, MODEL.difficulty_R)
    assert np.array_equal(again.energy_KR, MODEL.energy_KR)
    assert (again.token_penalty, again.noise_std) == (4.0, 0.4)
    assert again.level_prior == PRIOR


@pytest.mark.parametrize(
    "change",
    [
        {"difficulty_R": None},
        {"difficulty_R": np.zeros(5)},
        {"energy_KR": np.zeros(4)},
        {"settings_6": np.ones(5)},
        {"settings_6": np.array([0.0, 0.4, 0.1, 0.2, -3.0, 0.1])},
        {"settings_6": np.array([4.0, 0.0, 0.1, 0.2, -3.0, 0.1])},
        {"settings_6": np.array([4.0, 0.4, 0.1, 0.2, -3.0, 0.0])},
    ],
)
def test_arrays_that_are_no_model_are_refused(change):
    """Missing, misshapen and boundless figures are artifact errors."""
    arrays = {k: v for k, v in {**MODEL.to_arrays(), **change}.items() if v is not None}
    with pytest.raises(ArtifactError, match="query model cannot be used"):
        QueryModel.from_arrays(arrays, ANCHORS)


@pytest.mark.parametrize(
    ("field", "value"), [("mean", 1.5), ("per_decade", -2.0), ("std", 0.0), ("std", float("nan"))]
)
def test_priors_that_no_pool_gives_are_refused(field, value):
    """The message holds field and value."""
    with pytest.raises(InvalidInputError, match=f"{field} must be .* got {value}"):
        dataclasses.replace(PRIOR, **{field: value})
