"""Training in a world of known truth: it routes, it takes what logs hold, it leaks nothing."""

import dataclasses

import numpy as np
import pytest
import torch

from router.candidate import Candidate, Price
from router.errors import InvalidInputError
from router.profile import Profile
from training.crossfit import epoch_batches, prepare
from training.fit import FitConfig, build_network, build_optimizer, fit_router, training_step


def routed_quality(artifact, world, true_NM, test):
    """Return the true mean quality of the router's choices."""
    mean_NM, _ = artifact.scorer().quality(
        test.features_NF,
        candidates=world.candidates,
        profiles=artifact.profiles,
        available_NM=test.available_NM,
    )
    return true_NM[np.arange(len(test)), mean_NM.argmax(axis=1)].mean()


def score(scorer, features_F, candidates, profiles, **changes):
    """Score one query with everyone available."""
    arguments = {"num_chars": 100, "num_images": 1, "available_M": np.ones(len(candidates), bool)}
    return scorer.score(
        features_F, candidates=candidates, profiles=profiles, **{**arguments, **changes}
    )


def test_learned_routing_beats_the_best_single_and_nears_the_oracle(world, fitted):
    """Of the way from the best single candidate (0.60) to the oracle, nine tenths are gone."""
    test, true_NM = world.make(2000, seed=1)
    routed = routed_quality(fitted[0], world, true_NM, test)
    single, oracle = true_NM.mean(axis=0).max(), true_NM.max(axis=1).mean()
    assert routed > single + 0.9 * (oracle - single)


def test_the_report_compares_policies(fitted):
    """The validation rows show router above best single and below the oracle."""
    _, report = fitted
    values = {name: value.quality for name, value in report.values.items()}
    assert values["random"] < values["router"] <= values["oracle"]
    assert values["best_single"] < values["router"]
    assert report.epochs[0].number == 0


def test_one_outcome_per_request_is_enough_to_learn(world):
    """Logs without a single full-information row train to finite, useful scores."""
    training_set, _ = world.make(800, logged=True)
    config = FitConfig(max_epochs=5, cost_weight=0.03, latency_weight=0.01)
    artifact, report = fit_router(
        training_set, config, schema=world.schema, candidates=world.candidates
    )
    assert all(np.isfinite([e.train_loss, e.validation_loss]).all() for e in report.epochs[1:])
    assert "oracle" not in report.values
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
    artifact, report = fit_router(
        holed, FitConfig(max_epochs=2), schema=world.schema, candidates=world.candidates
    )
    assert np.isfinite(report.epochs[-1].train_loss)
    assert artifact.profiles["dune"].num_observed == 0


def test_the_same_seed_gives_the_same_router(world):
    """Two runs agree to the bit and leave torch's generator where it was."""
    training_set, _ = world.make(80)
    before = torch.random.get_rng_state()
    states = [
        fit_router(
            training_set,
            FitConfig(max_epochs=2),
            schema=world.schema,
            candidates=world.candidates,
        )[0].network.state_dict()
        for _ in range(2)
    ]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert torch.equal(before, torch.random.get_rng_state())


def test_no_row_sees_its_own_label(world):
    """Turning one row's labels leaves the profile inputs of its fold as they were."""
    training_set, _ = world.make(100)
    score_NM = training_set.score_NM.copy()
    score_NM[7] = 1 - score_NM[7]
    turned = dataclasses.replace(training_set, score_NM=score_NM)
    one, other = (
        prepare(rows, FitConfig(), schema=world.schema, candidates=world.candidates)
        for rows in (training_set, turned)
    )
    own = one.fold_N[7]
    assert np.array_equal(one.capability_SVMP[own], other.capability_SVMP[own])
    assert not np.array_equal(one.capability_SVMP, other.capability_SVMP)


def test_ranks_share_an_epoch_without_overlap(world):
    """Two workers take equally many steps on different rows."""
    training_set, _ = world.make(101)
    config = FitConfig(batch_size=20)
    prepared = prepare(training_set, config, schema=world.schema, candidates=world.candidates)
    seen = [
        torch.cat(
            [
                batch.query_BD
                for batch in epoch_batches(
                    prepared, config, np.random.default_rng(0), rank=rank, num_ranks=2
                )
            ]
        )
        for rank in range(2)
    ]
    assert [len(rows) for rows in seen] == [50, 50]
    assert len(torch.cat(seen).unique(dim=0)) == 100


def test_a_step_reaches_every_parameter(world):
    """Distributed training needs a gradient for each parameter, and the step changes weights."""
    training_set, _ = world.make(64)
    config = FitConfig()
    prepared = prepare(training_set, config, schema=world.schema, candidates=world.candidates)
    network = build_network(prepared, config)
    batch = next(epoch_batches(prepared, config, np.random.default_rng(0))).to("cpu")
    losses = training_step(network, build_optimizer(network, config), batch, config)
    assert all(term.isfinite() for term in losses)
    assert all(parameter.grad is not None for parameter in network.parameters())


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


@pytest.mark.parametrize("change", [{"num_folds": 1}, {"learning_rate": 0.0}, {"seed": -1}])
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


def test_a_new_candidate_is_scored_by_what_little_is_known(world, fitted):
    """Without a profile it gets finite scores; with a poor one it is not preferred."""
    artifact, _ = fitted
    scorer, (test, _) = artifact.scorer(), world.make(1, seed=5)
    newcomer = Candidate(id="new", price=Price(input_usd_per_mtok=1, output_usd_per_mtok=4))
    pool = (*world.candidates, newcomer)
    unknown = score(scorer, test.features_NF[0], pool, artifact.profiles)
    assert np.isfinite(unknown.quality_mean_M).all()
    num_kinds = artifact.kinds.num_kinds
    poor = dataclasses.replace(
        Profile.prior("new", num_kinds=num_kinds, kinds_hash=artifact.kinds.hash),
        quality_K=(0.05,) * num_kinds,
        num_observed_K=(20.0,) * num_kinds,
        quality=0.05,
        num_observed=320.0,
    )
    known = score(scorer, test.features_NF[0], pool, {**artifact.profiles, "new": poor})
    assert known.quality_mean_M[4] < unknown.quality_mean_M[4]
    assert known.quality_mean_M.argmax() != 4


def test_a_changed_price_moves_the_cost_and_hardly_the_quality(world, fitted):
    """Twice the price is twice the predicted cost; quality moves by less than 0.05."""
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
    assert np.abs(after.quality_mean_M - before.quality_mean_M).max() < 0.05


def test_the_scorer_names_what_does_not_fit(world, fitted):
    """A foreign profile and a misshapen mask are refused; an empty pool has empty scores."""
    artifact, _ = fitted
    scorer, (test, _) = artifact.scorer(), world.make(1, seed=5)
    foreign = dataclasses.replace(artifact.profiles["aster"], kinds_hash="other")
    with pytest.raises(InvalidInputError, match="other kinds"):
        score(scorer, test.features_NF[0], world.candidates[:1], {"aster": foreign})
    with pytest.raises(InvalidInputError, match="booleans of shape"):
        score(
            scorer,
            test.features_NF[0],
            world.candidates,
            artifact.profiles,
            available_M=np.ones(3, bool),
        )
    assert score(scorer, test.features_NF[0], (), {}).cost_usd_M.shape == (0,)
