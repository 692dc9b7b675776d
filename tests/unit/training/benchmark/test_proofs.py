"""Proofs of ease and reliability: worked sums, and a world whose truth is known."""

from types import SimpleNamespace

import numpy as np
import pytest

from infra.evidence.router_lines import coverages
from router.candidate import Candidate, Price
from router.features.schema import FeatureBlock, FeatureSchema
from training.benchmark.pool_changes import (
    NUM_EXAMPLES,
    Addition,
    additions,
    earned,
    one_outcome_quality,
    predicted,
    regret_shares,
    removals,
)
from training.benchmark.reliability import (
    FloorCheck,
    calibration_error,
    chance_error,
    check_floors,
)
from training.benchmark.speed import (
    enlarged,
    interleaved_ms,
    permutation_error,
    time_small_pools,
)
from training.benchmark.table import OutcomeTable
from training.data.dataset import TrainingSet
from training.fitting.fit import FitConfig, fit_router

SCHEMA = FeatureSchema(
    (
        FeatureBlock(name="text", encoder="made-up", sha256="0" * 64, dim=6),
        FeatureBlock(name="image", encoder="made-up", sha256="1" * 64, dim=3),
    )
)
QUALITY_MK = np.array([[0.95, 0.2, 0.3], [0.2, 0.95, 0.3], [0.5, 0.5, 0.5]])
NAMES = ("aster", "birch", "cedar")


def make_table(num_rows, seed):
    """Return a table in which each candidate is good at its own kind of query."""
    rng = np.random.default_rng(seed)
    kind_N = rng.integers(0, 3, num_rows)
    centres_KF = 3 * np.random.default_rng(9).normal(size=(3, SCHEMA.num_features))
    features_NF = centres_KF[kind_N] + rng.normal(size=(num_rows, SCHEMA.num_features))
    true_NM = QUALITY_MK[:, kind_N].T
    rows = TrainingSet.of_scores(
        features_NF.astype(np.float32),
        NAMES,
        (rng.random(true_NM.shape) < true_NM).astype(np.float32),
        num_chars_N=np.full(num_rows, 80),
        num_images_N=np.ones(num_rows, dtype=np.int64),
    )
    candidates = tuple(
        Candidate(id=name, price=Price(input_usd_per_mtok=usd, output_usd_per_mtok=usd))
        for name, usd in zip(NAMES, (1.0, 2.0, 8.0), strict=True)
    )
    return OutcomeTable(
        name="made-up",
        rows=rows,
        schema=SCHEMA,
        candidates=candidates,
        cost_usd_NM=np.full(true_NM.shape, np.nan),
        query_ids=tuple(f"q{i}" for i in range(num_rows)),
        datasets=("made-up",) * num_rows,
    )


@pytest.fixture(scope="module")
def world():
    """Return past and test rows with a router fitted on the past."""
    past, test = make_table(600, 0), make_table(400, 1)
    artifact, _ = fit_router(
        past.rows, FitConfig(), schema=past.schema, candidates=past.candidates
    )
    return SimpleNamespace(past=past, test=test, artifact=artifact)


def test_earned_is_the_score_of_the_best_available_prediction(world):
    """With one candidate left its own scores are earned; with none there is nothing."""
    quality_NM = predicted(world.artifact, world.test)
    only_M = np.array([False, True, False])
    assert np.array_equal(
        earned(quality_NM, world.test, only_M), world.test.rows.score_NM[:, 1].astype(float)
    )
    assert np.isnan(earned(quality_NM, world.test, np.zeros(3, dtype=bool))).all()


def test_a_newcomer_earns_its_place_with_examples(world):
    """With 128 examples less than half of the regret without the candidate is left."""
    found = additions(world.past, world.test, world.artifact, seed=0)
    assert [a.candidate for a in found] == list(NAMES)
    shares = regret_shares(found, np.random.default_rng(0))
    assert tuple(shares) == NUM_EXAMPLES
    assert shares[128][0] < 0.5
    assert shares[128][1] <= shares[128][0] <= shares[128][2]


def test_regret_shares_are_ratios_of_sums():
    """Full earns 2, without 0, with examples 1: half of the regret is left."""
    added = {n: np.array([1.0, 0.0]) for n in NUM_EXAMPLES}
    one = Addition(
        pool="p",
        seed=0,
        candidate="c",
        group_N=np.array([0, 1]),
        full_N=np.array([1.0, 1.0]),
        without_N=np.array([0.0, 0.0]),
        added=added,
    )
    assert regret_shares([one], np.random.default_rng(0))[64][0] == 0.5


def test_masked_pools_stay_above_their_best_single(world):
    """Every pool of two or three keeps to its best remaining candidate or better."""
    removal = removals(world.past, world.test, world.artifact, seed=0)
    assert removal.num_subsets == 4
    assert removal.num_below == 0


def test_one_outcome_per_query_comes_near_full_information(world):
    """A third of the labels costs less than ten points in a world of clear kinds."""
    full = float(earned(predicted(world.artifact, world.test), world.test).mean())
    assert one_outcome_quality(world.past, world.test, seed=0) > full - 0.10


def test_calibration_error_weighs_bins_by_their_rows():
    """Bin 0.9: two rows, mean 0.95 against 0.5; bin 0.1: two rows, 0.15 against 0: 0.3."""
    predicted_N = np.array([0.95, 0.95, 0.15, 0.15])
    assert calibration_error(predicted_N, np.array([1.0, 0.0, 0.0, 0.0])) == pytest.approx(0.3)


def test_floors_are_kept_on_rows_that_nobody_trained_on(world):
    """Each floor is kept within five points, the noise of 400 rows, and none costs more."""
    for check in check_floors(world.artifact, world.test):
        assert check.kept >= check.confidence - 0.05
        assert check.saved >= 0.0


def test_coverage_is_told_by_pool():
    """Pools 0.9 and 0.8 make 0.85, and the worst is 0.8."""
    proofs = [
        SimpleNamespace(pool=pool, floors=[[FloorCheck(0.0, 0.9, 0.1, kept, 0.5)]])
        for pool, kept in (("a", 0.9), ("b", 0.8))
    ]
    (coverage,) = coverages(proofs)
    assert (coverage.kept, coverage.worst, coverage.saved) == (pytest.approx(0.85), 0.8, 0.5)


def test_enlarged_pools_score_every_copy(world):
    """A thousand candidates are scored by the same artifact, each by its own token."""
    pool, candidates = enlarged(world.artifact, 1000)
    quality_NM = pool.scorer().quality(
        world.test.rows.features_NF[:2], candidates=candidates, profiles=pool.profiles
    )
    assert quality_NM.shape == (2, 1000)
    assert np.isfinite(quality_NM).all()


def test_both_routers_are_timed_in_turns(world):
    """Batches of one and of 64, a positive median each; calls alternate."""
    seen = []
    interleaved_ms([lambda: seen.append("a"), lambda: seen.append("b")], 2)
    assert seen[-4:] == ["a", "b", "a", "b"]
    timings = time_small_pools(world.artifact, world.test.rows.features_NF)
    assert [t.batch for t in timings] == [1, 64]
    assert all(t.router_ms > 0 and t.published_ms > 0 for t in timings)


def test_sets_can_lose_a_column_and_forget_entries(world):
    """A left-out column is gone everywhere; unseen entries are NaN and rows stay."""
    rows = world.past.rows
    fewer = rows.without_candidate("birch")
    assert fewer.candidate_ids == ("aster", "cedar")
    assert np.array_equal(fewer.score_NM, rows.score_NM[:, [0, 2]])
    seen_NM = np.zeros_like(rows.available_NM)
    seen_NM[:, 0] = True
    assert rows.with_observed(seen_NM).num_observed().tolist() == [600, 0, 0]
    assert len(rows.joined(rows)) == 1200
    keeps_F = np.array([True] * 6 + [False] * 3)
    assert (rows.masked_features(keeps_F).features_NF[:, 6:] == 0).all()
    assert rows.masked_features(np.ones(9, dtype=bool)) is rows


def test_permuted_candidates_keep_their_scores(world):
    """From two to a thousand candidates no score moves by more than a millionth."""
    assert permutation_error(world.artifact, world.test.rows.features_NF) <= 1e-6


def test_a_calibrated_forecast_stays_under_its_chance_error():
    """In about 95 % of draws, although each answer comes five times."""
    rng = np.random.default_rng(0)
    within = []
    for _ in range(100):
        predicted_C = rng.random(200)
        score_C = (rng.random(200) < predicted_C).astype(float)
        predicted_N, score_N = np.repeat(predicted_C, 5), np.repeat(score_C, 5)
        group_N = np.repeat(np.arange(200), 5)
        limit = chance_error(predicted_N, score_N, group_N, rng)
        within.append(calibration_error(predicted_N, score_N) <= limit)
    assert 85 <= sum(within) <= 100
