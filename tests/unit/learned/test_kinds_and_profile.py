"""Kinds and profiles: counted from outcomes, uncertain where thin, blind to the pool.

Axis legend: N = outcomes, D = projected components, K = kinds, R = basis functions.
"""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.anchors import Anchors
from router.candidate import Price
from router.errors import ArtifactError, InvalidInputError
from router.kinds import Kinds
from router.profile import PoolEconomics, Profile
from router.profile_estimate import Observations, count_weights, estimate_profile
from router.query_model import LevelPrior, QueryModel

PRICE = Price(input_usd_per_mtok=1.0, output_usd_per_mtok=4.0)
KINDS = Kinds(centres_KD=np.array([[0.0, 0.0], [10.0, 0.0]], dtype=np.float32), scale=1.0)

QUERIES = QueryModel(
    anchors=Anchors(
        points_AD=np.array([[0.0, 0.0], [10.0, 0.0]], dtype=np.float32),
        is_text_D=np.array([True, False]),
        num_blocks_2=(1, 1),
        basis_AR=np.eye(2, dtype=np.float32),
        centre_R=np.zeros(2, dtype=np.float32),
    ),
    difficulty_R=np.array([0.5, 0.0, 0.0], dtype=np.float32),
    energy_KR=np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 1.0]], dtype=np.float32),
    token_penalty=4.0,
    noise_std=0.5,
    level_prior=LevelPrior(mean=0.1, std=0.25),
)


def observations(score_N, kind_N, **columns):
    """Return outcomes that lie wholly in one kind each."""
    num_rows = len(score_N)
    unseen_N = np.full(num_rows, np.nan)
    membership_NK = np.eye(2)[np.asarray(kind_N, dtype=int)]
    values = {
        "membership_NK": membership_NK,
        "score_N": np.asarray(score_N, dtype=float),
        "weight_N": np.ones(num_rows),
        "num_chars_N": np.zeros(num_rows, dtype=int),
        "num_images_N": np.zeros(num_rows, dtype=int),
        "input_tokens_N": unseen_N,
        "output_tokens_N": unseen_N,
        "latency_s_N": unseen_N,
        "ttft_s_N": unseen_N,
        "basis_NR": np.column_stack([np.ones(num_rows), membership_NK]).astype(np.float32),
    }
    return Observations(**{**values, **columns})


def estimate(observed, name="a", price=None):
    """Count outcomes into a profile."""
    return estimate_profile(name, observed, KINDS, QUERIES, price=price)


def test_kinds_find_separate_clusters():
    """Rows of one cluster share a kind that rows of another do not."""
    rng = np.random.default_rng(0)
    points_ND = np.concatenate([rng.normal(0, 1, (50, 3)), rng.normal(20, 1, (50, 3))])
    membership_NK = Kinds.fit(points_ND, num_kinds=2).assign(points_ND)
    assert np.allclose(membership_NK.sum(axis=1), 1.0)
    assert len(set(membership_NK[:50].argmax(axis=1))) == 1
    assert membership_NK[0].argmax() != membership_NK[-1].argmax()


@pytest.mark.parametrize(("num_rows", "expected"), [(1, 1), (25, 2), (500, 16)])
def test_small_sets_get_fewer_kinds(num_rows, expected):
    """One kind needs ten rows."""
    points_ND = np.random.default_rng(1).normal(size=(num_rows, 4))
    assert Kinds.fit(points_ND).num_kinds == expected


def test_equal_rows_make_one_kind():
    """Points without any spread are one kind, and membership stays finite."""
    kinds = Kinds.fit(np.ones((40, 3)))
    assert kinds.num_kinds == 1
    assert np.isfinite(kinds.assign(np.full((1, 3), 7.0))).all()


def test_kinds_survive_arrays_and_hash_alike():
    """Arrays give the same kinds back; another centre gives another hash."""
    again = Kinds.from_arrays(KINDS.to_arrays())
    assert again.hash == KINDS.hash
    moved = Kinds(centres_KD=KINDS.centres_KD + 1, scale=1.0)
    assert moved.hash != KINDS.hash


@pytest.mark.parametrize(
    "arrays",
    [
        {"scale": np.ones(1)},
        {"centres_KD": np.ones(3), "scale": np.ones(1)},
        {"centres_KD": np.full((2, 2), np.nan), "scale": np.ones(1)},
        {"centres_KD": np.ones((2, 2)), "scale": np.zeros(1)},
    ],
)
def test_arrays_that_are_no_kinds_are_refused(arrays):
    """Missing, misshapen or infinite arrays are artifact errors."""
    with pytest.raises(ArtifactError, match="kinds"):
        Kinds.from_arrays(arrays)


@pytest.mark.parametrize(("points_ND", "num_kinds"), [(np.empty((0, 2)), 2), (np.ones((3, 2)), 0)])
def test_kinds_need_rows_and_a_positive_number(points_ND, num_kinds):
    """Nothing to cluster is an error."""
    with pytest.raises(InvalidInputError):
        Kinds.fit(points_ND, num_kinds=num_kinds)


def test_quality_is_the_mean_of_its_kind():
    """Kind 0: (1+1+0)/3 = 2/3 of 3; kind 1: 0/1 = 0 of 1; overall 2/4 = 0.5 of 4."""
    profile = estimate(observations([1, 1, 0, 0], [0, 0, 0, 1]))
    assert profile.quality_K == pytest.approx((2 / 3, 0.0))
    assert profile.num_observed_K == pytest.approx((3.0, 1.0))
    assert (profile.quality, profile.num_observed) == (0.5, 4.0)


def test_inverse_propensity_weighs_the_mean():
    """(3*1 + 1*0) / (3+1) = 0.75, and Kish's count is 4² / (9+1) = 1.6."""
    observed = observations([1, 0], [0, 0], weight_N=np.array([3.0, 1.0]))
    profile = estimate(observed)
    assert profile.quality == pytest.approx(0.75)
    assert profile.num_observed == pytest.approx(1.6)


def test_no_outcome_gives_the_prior():
    """An unseen candidate has the level of its price and is least certain.

    The level's penalty is (0.5 / 0.25)² = 4, so the deviation is 0.5 * sqrt(1/4 + 1/4) by kind.
    """
    profile = estimate(observations([], []), "new")
    assert (profile.quality_K, profile.num_observed_K) == ((0.5, 0.5), (0.0, 0.0))
    assert (profile.quality, profile.num_observed) == (0.5, 0.0)
    assert profile.token_R == pytest.approx((0.1, 0.0, 0.0))
    assert profile.token_std_K == pytest.approx([0.5 * np.sqrt(0.5)] * 2)


def test_a_dearer_newcomer_is_expected_to_be_better():
    """0.1 more for each tenfold price: the level of a candidate without outcomes tells it."""
    prior = LevelPrior(mean=0.0, per_decade=0.1, centre=-3.0)
    queries = dataclasses.replace(QUERIES, level_prior=prior)
    levels = [
        estimate_profile(
            "new",
            observations([], []),
            KINDS,
            queries,
            price=Price(input_usd_per_mtok=usd, output_usd_per_mtok=usd),
        ).token_R[0]
        for usd in (1.0, 10.0)
    ]
    assert levels[1] - levels[0] == pytest.approx(0.1)


def test_thin_kinds_are_uncertain_and_rich_kinds_speak():
    """One failure in a kind moves its token less than two hundred failures do."""

    def of_kind_1(num_failures):
        observed = observations([1.0] * 200 + [0.0] * num_failures, [0] * 200 + [1] * num_failures)
        profile = estimate(observed)
        quality = QUERIES.difficulty_R[0] + profile.token_R[0] + profile.token_R[2]
        return quality, profile.token_std_K[1]

    (thin, thin_std), (rich, rich_std) = of_kind_1(1), of_kind_1(200)
    assert rich < 0.05
    assert thin > 0.3
    assert rich_std < thin_std


def test_unlabelled_outcomes_say_nothing_of_the_token():
    """A row without a label leaves token and deviation, whatever its latency says."""
    labelled = observations([1.0, 0.0], [0, 1])
    more = observations([1.0, 0.0, np.nan], [0, 1, 1], latency_s_N=np.array([1.0, 2.0, 9.0]))
    assert estimate(more).token_R == estimate(labelled).token_R
    assert estimate(more).token_std_K == estimate(labelled).token_std_K


def test_weights_count_outcomes():
    """Equal weights of 10 count one each; (3, 1) sum to 4² / 10 = 1.6; an empty column is 0."""
    weight_NM = np.array([[10.0, 3.0, 0.0], [10.0, 1.0, 0.0]])
    counted_NM = count_weights(weight_NM)
    assert counted_NM == pytest.approx(np.array([[1.0, 1.2, 0.0], [1.0, 0.4, 0.0]]))
    assert count_weights(np.empty((0, 2))).shape == (0, 2)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 1)), max_size=12),
    st.floats(0, 100),
)
def test_profiles_are_finite_of_one_width_and_survive_json(rows, price):
    """Whatever was seen, the widths follow from kinds and basis alone."""
    observed = observations([score for score, _ in rows], [kind for _, kind in rows])
    usd = Price(input_usd_per_mtok=price, output_usd_per_mtok=price)
    profile = estimate(observed, price=usd)
    assert (len(profile.token_R), len(profile.token_std_K), profile.num_kinds) == (3, 2, 2)
    assert np.isfinite([*profile.token_R, *profile.token_std_K]).all()
    assert min(profile.token_std_K) > 0
    assert Profile.from_json(json.loads(json.dumps(profile.to_json()))) == profile


def test_token_counts_are_recovered_from_outcomes():
    """100 + 0.5 per character + 300 per image is found again within two percent."""
    rng = np.random.default_rng(0)
    chars_N, images_N = rng.integers(0, 500, 60), rng.integers(0, 3, 60)
    tokens_N = 100 + 0.5 * chars_N + 300 * images_N
    observed = observations(
        np.full(60, np.nan),
        np.zeros(60),
        num_chars_N=chars_N,
        num_images_N=images_N,
        input_tokens_N=tokens_N,
    )
    profile = estimate(observed)
    found = (
        profile.input_tokens_base,
        profile.input_tokens_per_char,
        profile.input_tokens_per_image,
    )
    assert found == pytest.approx((100, 0.5, 300), rel=0.02)
    assert profile.num_observed == 0.0


def test_cost_and_latency_are_worked_out_from_the_profile():
    """(10 + 0.5*40 + 100*1) * 1e-6 + 50 * 4e-6 = 330e-6 USD; 1 + 3 * 50/75 = 3 s."""
    profile = dataclasses.replace(
        estimate(observations([], [])),
        input_tokens_base=10.0,
        input_tokens_per_char=0.5,
        input_tokens_per_image=100.0,
        output_tokens_K=(50.0, 100.0),
        latency_s_p50=4.0,
        time_to_first_token_s=1.0,
    )
    first_K = np.array([1.0, 0.0])
    cost = profile.predict_cost_usd(PRICE, num_chars=40, num_images=1, membership_K=first_K)
    assert cost == pytest.approx(330e-6)
    assert profile.predict_latency_s(membership_K=first_K) == pytest.approx(3.0)
    pool = PoolEconomics.of([profile, profile], [PRICE, PRICE])
    assert pool.cost_usd([40], [1], first_K[None]).tolist() == [[cost, cost]]


@pytest.mark.parametrize(
    "change",
    [
        {"quality": 1.5},
        {"quality_K": (0.5,)},
        {"latency_s_p95": 0.1},
        {"outcome_std": 0.0},
        {"num_observed": float("nan")},
        {"token_R": (0.1, float("inf"))},
        {"token_std_K": (0.1,)},
        {"token_std_K": (0.1, -0.1)},
    ],
)
def test_impossible_profiles_are_refused(change):
    """No figure outside its bounds is stored or read."""
    prior = estimate(observations([], []))
    with pytest.raises(InvalidInputError):
        dataclasses.replace(prior, **change)
    with pytest.raises(ArtifactError, match="estimate it again"):
        Profile.from_json({**prior.to_json(), **change})


def test_contradicting_outcomes_are_refused():
    """Columns of unequal length and labels above 1 are errors."""
    with pytest.raises(InvalidInputError, match="length"):
        observations([1.0], [0], weight_N=np.ones(3))
    with pytest.raises(InvalidInputError, match="0 to 1"):
        observations([2.0], [0])


def test_foreign_memberships_are_refused():
    """Memberships of three kinds do not fit two."""
    with pytest.raises(InvalidInputError, match="3 kinds, not 2"):
        estimate(observations([1.0], [0], membership_NK=np.ones((1, 3)) / 3))
