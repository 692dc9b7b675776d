"""Training end to end: it routes, it takes what logs hold, it leaks nothing.

Axis legend: N = queries, M = candidates, K = true kinds, R = basis functions.
"""

import dataclasses

import numpy as np
import pytest

from router.candidate import Candidate, Price
from router.errors import InvalidInputError
from training.fitting.fit import FitConfig, add_profile, fit_router

NEWCOMER = Candidate(id="elder", price=Price(input_usd_per_mtok=1.0, output_usd_per_mtok=4.0))
NEWCOMER_QUALITY_K = np.array([0.3, 0.3, 0.3, 0.98])
"""Strong where the trained pool is weakest: the best of it has 0.6 on kind 3."""


def fit(world, training_set, **config):
    """Train on a few anchors, for speed."""
    return fit_router(
        training_set,
        FitConfig(**{"num_anchors": 128, **config}),
        schema=world.schema,
        candidates=world.candidates,
    )


def routed_quality(artifact, world, true_NM, test):
    """Return the true mean quality of the router's choices."""
    mean_NM = artifact.scorer().quality(
        test.features_NF, candidates=world.candidates, profiles=artifact.profiles
    )
    return true_NM[np.arange(len(test)), mean_NM.argmax(axis=1)].mean()


def score(scorer, features_F, candidates, profiles):
    """Score one query."""
    return scorer.score(
        features_F, num_chars=100, num_images=1, candidates=candidates, profiles=profiles
    )


def with_newcomer(world, num_labelled, seed=7):
    """Return rows with a fifth column, labelled in the first rows alone, and each row's kind."""
    rows, true_NM = world.make(max(num_labelled, 20), seed=seed)
    kind_N = true_NM.argmax(axis=1)
    rng = np.random.default_rng(seed)
    score_N = (rng.random(len(rows)) < NEWCOMER_QUALITY_K[kind_N]).astype(np.float32)
    score_N[num_labelled:] = np.nan
    columns = {
        item.name: np.column_stack([getattr(rows, item.name), getattr(rows, item.name)[:, 0]])
        for item in dataclasses.fields(rows)
        if item.name.endswith("_NM")
    }
    columns["score_NM"][:, 4] = score_N
    return dataclasses.replace(rows, candidate_ids=(*rows.candidate_ids, NEWCOMER.id), **columns)


def test_learned_routing_beats_the_best_single_and_nears_the_oracle(world, fitted):
    """Of the way from the best single candidate (0.60) to the oracle, nine tenths are gone."""
    test, true_NM = world.make(2000, seed=1)
    routed = routed_quality(fitted[0], world, true_NM, test)
    single, oracle = true_NM.mean(axis=0).max(), true_NM.max(axis=1).mean()
    assert routed > single + 0.9 * (oracle - single)


def test_the_report_compares_policies(fitted):
    """Left-out rows show the router above the best single and below the oracle."""
    artifact, report = fitted
    values = {name: value.quality for name, value in report.values.items()}
    assert values["random"] < values["best_single"] < values["router"] < values["oracle"]
    assert (report.num_rows, report.num_labels) == (600, 2400)
    assert 0.4 < report.noise_std < 0.5
    assert artifact.queries.token_penalty == report.token_penalty
    assert artifact.training_summary["values"]["router"]["quality"] == values["router"]


def test_the_floor_is_calibrated_on_left_out_rows(world, fitted):
    """It counts every full-information row, and the slack rises as less certainty is asked."""
    floor = fitted[0].floor
    assert floor.num_queries == 600
    assert floor.slack(0.0, 0.99) < floor.slack(0.0, 0.8) < floor.slack(0.0, 0.6)
    logged, _ = fit(world, world.make(60, logged=True)[0], num_anchors=16)
    assert logged.floor.num_queries == 0


def test_one_outcome_per_request_is_enough_to_learn(world):
    """Logs without a single full-information row train to finite, useful scores."""
    training_set, _ = world.make(800, logged=True)
    artifact, report = fit(world, training_set)
    assert "oracle" not in report.values
    assert np.isfinite([report.noise_std, report.values["router"].quality]).all()
    test, true_NM = world.make(1000, seed=1)
    assert routed_quality(artifact, world, true_NM, test) > true_NM.mean(axis=0).max() + 0.1


def test_a_candidate_nobody_labelled_and_rows_without_anyone_do_no_harm(world):
    """Unlabelled columns and fully masked rows train without NaN."""
    training_set, _ = world.make(120)
    score_NM, available_NM = training_set.score_NM.copy(), training_set.available_NM.copy()
    score_NM[:, 3] = np.nan
    score_NM[:20] = np.nan
    available_NM[:20] = False
    holed = dataclasses.replace(training_set, score_NM=score_NM, available_NM=available_NM)
    artifact, report = fit(world, holed)
    assert report.num_labels == 300
    assert artifact.profiles["dune"].num_observed == 0
    assert np.abs(artifact.profiles["dune"].token_R[1:]).max() == 0
    mean_NM = artifact.scorer().quality(
        training_set.features_NF, candidates=world.candidates, profiles=artifact.profiles
    )
    assert np.isfinite(mean_NM).all()


def test_a_set_of_one_group_still_trains(world):
    """Where no row can be left out, nothing breaks."""
    training_set, _ = world.make(30)
    one = dataclasses.replace(training_set, group_N=np.zeros(30, dtype=np.int64))
    artifact, report = fit(world, one)
    assert np.isfinite(report.noise_std)
    assert np.isfinite(artifact.queries.difficulty_R).all()


def test_the_same_seed_gives_the_same_router(world):
    """Two runs agree to the bit; another seed draws other anchors."""
    training_set, _ = world.make(80)
    one, same, other = (fit(world, training_set, seed=s, num_anchors=40)[0] for s in (0, 0, 1))
    assert one.profiles == same.profiles
    assert np.array_equal(one.queries.difficulty_R, same.queries.difficulty_R)
    points = [artifact.queries.anchors.points_AD for artifact in (one, same, other)]
    assert np.array_equal(points[0], points[1])
    assert not np.array_equal(points[0], points[2])


def test_stages_are_told_in_order(world):
    """Whoever waits for the training hears what begins."""
    told = []
    fit_router(
        world.make(40)[0],
        FitConfig(num_anchors=16),
        schema=world.schema,
        candidates=world.candidates,
        on_stage=told.append,
    )
    assert [stage.split()[0] for stage in told] == ["features,", "penalties,", "difficulty"]


@pytest.mark.parametrize("case", ["no label", "no row", "other columns"])
def test_sets_that_teach_nothing_are_refused(world, case):
    """Missing labels, rows and candidates are named."""
    training_set, _ = world.make(20)
    candidates = world.candidates
    if case == "no label":
        blank_NM = np.full_like(training_set.score_NM, np.nan)
        training_set = dataclasses.replace(training_set, score_NM=blank_NM)
    elif case == "no row":
        training_set = training_set.subset(np.zeros(20, dtype=bool))
    else:
        candidates = candidates[::-1]
    with pytest.raises(InvalidInputError):
        fit_router(training_set, FitConfig(), schema=world.schema, candidates=candidates)


@pytest.mark.parametrize(
    "change",
    [
        {"num_folds": 1},
        {"num_anchors": 0},
        {"num_kinds": 0},
        {"num_components": 0},
        {"weight_clip": 0.5},
        {"seed": -1},
    ],
)
def test_settings_outside_their_bounds_are_refused(change):
    """A bad setting is named when the config is built."""
    with pytest.raises(InvalidInputError, match=next(iter(change))):
        FitConfig(**change)


def test_scores_follow_their_candidates(world, fitted):
    """Permuted candidates get permuted scores, cost and latency included."""
    artifact, _ = fitted
    scorer, (test, _) = artifact.scorer(), world.make(1, seed=5)
    plain = score(scorer, test.features_NF[0], world.candidates, artifact.profiles)
    moved = score(scorer, test.features_NF[0], world.candidates[::-1], artifact.profiles)
    for name in plain.__slots__:
        assert np.allclose(getattr(plain, name), getattr(moved, name)[::-1], atol=1e-6)
    assert (plain.cost_usd_M > 0).all()
    assert (np.diff(plain.cost_usd_M) > 0).all()


def test_a_newcomer_without_outcomes_is_what_its_price_says(world, fitted):
    """Its token is the level of its price alone, and it is the least certain of the pool."""
    artifact, _ = fitted
    profile = add_profile(artifact, with_newcomer(world, 0), NEWCOMER)
    level = artifact.queries.level_prior.level(NEWCOMER.price)
    assert profile.token_R == pytest.approx((level, *[0.0] * (len(profile.token_R) - 1)))
    assert profile.num_observed == 0
    assert min(profile.token_std_K) > max(
        max(known.token_std_K) for known in artifact.profiles.values()
    )


def test_a_newcomer_is_known_better_with_every_outcome(world, fitted):
    """Predictions near the truth, and certainty rises, over 0, 16 and 64 labelled rows."""
    artifact, _ = fitted
    test, true_NM = world.make(500, seed=1)
    truth_N = NEWCOMER_QUALITY_K[true_NM.argmax(axis=1)]
    errors, stds = [], []
    for num_labelled in (0, 16, 64):
        profile = add_profile(artifact, with_newcomer(world, num_labelled), NEWCOMER)
        mean_N1 = artifact.scorer().quality(
            test.features_NF, candidates=[NEWCOMER], profiles={NEWCOMER.id: profile}
        )
        errors.append(np.abs(mean_N1[:, 0] - truth_N).mean())
        stds.append(np.mean(profile.token_std_K))
    assert errors[0] > errors[1] > errors[2]
    assert stds[0] > stds[1] > stds[2]


@pytest.mark.parametrize(("num_labelled", "share"), [(96, 0.3), (256, 0.8)])
def test_a_strong_newcomer_is_preferred_on_its_kind(world, fitted, num_labelled, share):
    """After 96 labelled rows it is expected to be the best there, and nowhere else.

    A quarter of the rows are of its kind; single predictions still scatter by the others' noise.
    """
    artifact, _ = fitted
    profile = add_profile(artifact, with_newcomer(world, num_labelled), NEWCOMER)
    test, true_NM = world.make(1000, seed=1)
    mean_NM = artifact.scorer().quality(
        test.features_NF,
        candidates=(*world.candidates, NEWCOMER),
        profiles={**artifact.profiles, NEWCOMER.id: profile},
    )
    is_chosen_N, is_own_N = mean_NM.argmax(axis=1) == 4, true_NM.argmax(axis=1) == 3
    assert mean_NM[is_own_N].mean(axis=0).argmax() == 4
    assert is_chosen_N[is_own_N].mean() > share
    assert is_chosen_N[~is_own_N].mean() < 0.02


def test_a_trained_candidate_gets_its_own_profile_again(world, fitted):
    """The rows it was trained on give `add_profile` the same profile."""
    again = add_profile(fitted[0], world.make(600)[0], world.candidates[1])
    trained = fitted[0].profiles["birch"]
    assert again.token_R == pytest.approx(trained.token_R, abs=1e-4)
    assert again.token_std_K == pytest.approx(trained.token_std_K, rel=1e-4)
    assert again.output_tokens_K == trained.output_tokens_K


def test_a_newcomer_that_is_no_column_is_refused(world, fitted):
    """The message names it and the columns there are."""
    with pytest.raises(InvalidInputError, match="'elder' is none of the columns"):
        add_profile(fitted[0], world.make(20)[0], NEWCOMER)


def test_a_changed_price_moves_the_cost_alone(world, fitted):
    """Twice the price is twice the predicted cost; no quality or latency moves."""
    artifact, _ = fitted
    scorer, (test, _) = artifact.scorer(), world.make(1, seed=5)
    first = world.candidates[0]
    double = dataclasses.replace(
        first,
        price=Price(
            input_usd_per_mtok=2 * first.price.input_usd_per_mtok,
            output_usd_per_mtok=2 * first.price.output_usd_per_mtok,
        ),
    )
    before = score(scorer, test.features_NF[0], world.candidates, artifact.profiles)
    after = score(scorer, test.features_NF[0], (double, *world.candidates[1:]), artifact.profiles)
    assert after.cost_usd_M[0] == pytest.approx(2 * before.cost_usd_M[0])
    assert np.array_equal(after.cost_usd_M[1:], before.cost_usd_M[1:])
    for name in ("quality_mean_M", "quality_std_M", "latency_s_M"):
        assert np.array_equal(getattr(after, name), getattr(before, name))


def test_dearer_candidates_are_expected_to_be_better_where_they_were(world):
    """Levels that rise by 0.1 a decade of price are found, less the shrinkage towards flat."""
    rows, _ = world.make(400)
    rng = np.random.default_rng(0)
    decade_M = np.log10([c.price.input_usd_per_mtok for c in world.candidates])
    chance_M = 0.5 + 0.2 * (decade_M - decade_M.mean())
    score_NM = (rng.random(rows.score_NM.shape) < chance_M).astype(np.float32)
    artifact, _ = fit(world, dataclasses.replace(rows, score_NM=score_NM))
    assert 0.05 < artifact.queries.level_prior.per_decade < 0.2


def test_free_candidates_draw_no_line(world):
    """With no price above zero the prior is flat and the unit of cost is 1 USD."""
    free = Price(input_usd_per_mtok=0.0, output_usd_per_mtok=0.0)
    candidates = tuple(dataclasses.replace(c, price=free) for c in world.candidates)
    artifact, _ = fit_router(
        world.make(60)[0], FitConfig(num_anchors=16), schema=world.schema, candidates=candidates
    )
    assert artifact.queries.level_prior.per_decade == 0.0
    assert artifact.reference.cost_usd == 1.0
