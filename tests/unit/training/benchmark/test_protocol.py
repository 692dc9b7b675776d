"""One protocol for all: nobody learns from test rows, and costs of two kinds are kept apart.

Axis legend: N = queries, F = features, M = candidates.
"""

import dataclasses
import itertools
import json
import math
from dataclasses import dataclass, field
from itertools import count

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.candidate import Candidate, Price
from router.errors import InvalidInputError
from router.features.schema import FeatureBlock, FeatureSchema
from training.benchmark.cost_model import CostModel
from training.benchmark.metrics import COST_WEIGHTS
from training.benchmark.protocol import NUM_TURNS, choose, plain, run_protocol
from training.benchmark.table import OutcomeTable
from training.data.dataset import TrainingSet

SCHEMA = FeatureSchema(
    (
        FeatureBlock(name="text", encoder="made-up", sha256="0" * 64, dim=4),
        FeatureBlock(name="question", encoder="made-up", sha256="1" * 64, dim=2),
    )
)
NAMES = ("aster", "birch", "cedar")
NOT_SEEN = ("input_tokens_NM", "output_tokens_NM", "latency_s_NM", "ttft_s_NM")
FREE = Price(input_usd_per_mtok=0.0, output_usd_per_mtok=0.0)


def table_of(score_NM, cost_usd_NM=None, *, features_NF=None, num_chars_N=None, group_N=None):
    """Return a pool of up to three candidates with scores as given; unknown ones are NaN."""
    score_NM = np.array(score_NM, dtype=np.float32)
    num_rows, num_candidates = score_NM.shape
    names = NAMES[:num_candidates]
    zero_N = np.zeros(num_rows, dtype=np.int64)
    rows = TrainingSet.of_scores(
        np.ones((num_rows, 6)) if features_NF is None else features_NF,
        names,
        score_NM,
        num_chars_N=zero_N if num_chars_N is None else num_chars_N,
        group_N=np.arange(num_rows) if group_N is None else group_N,
    )
    return OutcomeTable(
        name="garden",
        rows=rows,
        schema=SCHEMA,
        candidates=tuple(Candidate(id=name, price=FREE) for name in names),
        cost_usd_NM=np.full(score_NM.shape, np.nan) if cost_usd_NM is None else cost_usd_NM,
        query_ids=tuple(f"q{n}" for n in range(num_rows)),
        datasets=("made-up",) * num_rows,
    )


def world(num_rows=200, seed=0):
    """Return a pool in which the first feature tells who is right, and cedar costs ten times."""
    rng = np.random.default_rng(seed)
    features_NF = rng.normal(size=(num_rows, 6)).astype(np.float32)
    chance_NM = np.column_stack([features_NF[:, 0] > 0, features_NF[:, 0] <= 0, np.ones(num_rows)])
    chars_N = rng.integers(10, 1000, num_rows)
    cost_usd_NM = np.outer(chars_N, [1e-6, 1e-6, 1e-5]) * rng.uniform(0.9, 1.1, (num_rows, 3))
    score_NM = rng.random((num_rows, 3)) < 0.1 + 0.8 * chance_NM
    return table_of(score_NM, cost_usd_NM, features_NF=features_NF, num_chars_N=chars_N)


@dataclass(frozen=True)
class Fixed:
    """Predicts one figure a candidate, whatever the query."""

    name: str
    quality_M: tuple[float, ...]

    def fit(self, _train, _validation, **_seed):
        """Learn nothing."""
        return self

    def quality(self, rows):
        """Repeat the figures."""
        return np.tile(np.array(self.quality_M), (len(rows.group_N), 1))


@dataclass(frozen=True)
class Linear:
    """Least squares on the projected features."""

    name: str = "linear"

    def fit(self, train, _validation, **_seed):
        """Fit all candidates at once."""
        weight_DM = np.linalg.lstsq(train.projected_ND, train.score_NM - 0.5, rcond=None)[0]
        return FittedLinear(weight_DM)


@dataclass(frozen=True)
class FittedLinear:
    """Its weights."""

    weight_DM: np.ndarray

    def quality(self, rows):
        """Predict."""
        return rows.projected_ND @ self.weight_DM + 0.5


@dataclass(frozen=True)
class Witness(Fixed):
    """Remembers what it was shown."""

    fits: list = field(default_factory=list)
    asked: list = field(default_factory=list)

    def fit(self, train, validation, *, seed):
        """Remember the rows and the seed."""
        self.fits.append((train, validation, seed))
        return self

    def quality(self, rows):
        """Remember the rows."""
        self.asked.append(rows)
        return super().quality(rows)


def one(table, rival, **options):
    """Return the only seed's result, and the only rival's."""
    seed = run_protocol(table, [rival], seeds=[0], **options).seeds[0]
    return seed, seed.rivals[0]


def test_the_choice_is_quality_less_weighted_cost():
    """.8 - w * 1 against .5 - w * .25: even at w = .4; above it the cheaper one."""
    quality, cost = np.array([[0.8, 0.5]]), np.array([[1.0, 0.25]])
    available = np.ones((1, 2), dtype=bool)
    assert choose(quality, cost, available, 0.39).tolist() == [0]
    assert choose(quality, cost, available, 0.41).tolist() == [1]
    assert choose(quality, cost, ~np.array([[True, False]]), 0.0).tolist() == [1]


@given(st.integers(0, 10_000), st.floats(0, 1e4))
def test_who_is_not_available_is_never_chosen(seed, weight):
    """Whatever its quality and cost."""
    rng = np.random.default_rng(seed)
    available = rng.random((20, 4)) < 0.5
    available[:, 2] |= ~available.any(axis=1)
    chosen = choose(rng.normal(size=(20, 4)), rng.random((20, 4)), available, weight)
    assert available[np.arange(20), chosen].all()


def test_costs_are_predicted_from_the_size_of_a_query():
    """A millionth of a dollar a character, give or take a tenth: to 6 % at the median."""
    table = world(600)
    train, _, test = table.split(0)
    predicted_NM = CostModel(train).predicted(test)
    share_NM = np.abs(predicted_NM / test.cost_usd_NM - 1)
    assert np.median(share_NM) < 0.06
    assert predicted_NM.shape == test.cost_usd_NM.shape


def test_the_mean_predicted_cost_is_the_mean_known_one():
    """By candidate, over the training rows with a cost."""
    train = world().split(0).train
    costs = CostModel(train)
    assert costs.predicted(train).mean(axis=0) == pytest.approx(train.cost_usd_NM.mean(axis=0))
    assert costs.bounds == pytest.approx((costs.mean_M.min(), costs.mean_M.max()))


def test_unknown_costs_are_means():
    """Aster is known in two rows (1 and 3 USD), birch in none: 2 and 2; cedar is free: 0."""
    cost_usd_NM = np.array([[1.0, np.nan, 0.0], [3.0, np.nan, 0.0], [np.nan, np.nan, np.nan]])
    table = table_of(np.ones((3, 3)), cost_usd_NM)
    costs = CostModel(table)
    assert costs.mean_M.tolist() == [2.0, 1.0, 0.0]
    assert costs.predicted(table).tolist() == [[2.0, 1.0, 0.0]] * 3
    assert costs.realised(table).tolist() == [[1.0, 1.0, 0.0], [3.0, 1.0, 0.0], [2.0, 1.0, 0.0]]
    assert costs.bounds == (1.0, 2.0)


def test_a_pool_without_costs_is_free():
    """All are 0, and there are no bounds."""
    table = table_of(np.ones((3, 2)))
    costs = CostModel(table)
    assert not (costs.predicted(table) + costs.realised(table)).any()
    assert np.isnan(costs.bounds).all()


def test_costs_need_no_question_block():
    """Length and images alone predict, where the schema has nothing else."""
    table = world()
    other = FeatureSchema((FeatureBlock(name="all", encoder="made-up", sha256="0" * 64, dim=6),))
    moved = dataclasses.replace(table, schema=other)
    share = CostModel(moved).predicted(moved) / table.cost_usd_NM
    assert np.median(np.abs(share - 1)) < 0.06


def test_the_oracle_takes_the_best_and_of_equals_the_cheapest():
    """In all rows birch and cedar earn .8, aster .5; birch costs 1 USD, cedar 2, aster .1."""
    table = table_of(np.tile([0.5, 0.8, 0.8], (20, 1)), np.tile([0.1, 1.0, 2.0], (20, 1)))
    seed, _ = one(table, Fixed("any", (1, 0, 0)))
    assert seed.oracle.point.quality == pytest.approx(0.8)
    assert seed.oracle.point.realised_usd == pytest.approx(1.0)


def test_the_best_single_is_the_best_of_training_who_is_available():
    """Birch has .9 where it is known, in even rows; in odd ones cedar (.6) leads aster (.3)."""
    score_NM = np.tile([0.3, 0.9, 0.6], (40, 1))
    score_NM[1::2, 1] = np.nan
    seed, _ = one(table_of(score_NM), Fixed("any", (1, 0, 0)))
    is_even_N = np.array([int(name[1:]) % 2 == 0 for name in seed.query_ids])
    assert seed.best_single.earned_N == pytest.approx(np.where(is_even_N, 0.9, 0.6))


def test_a_rival_earns_the_score_of_its_choice():
    """A rival that always takes cedar earns cedar's scores, at cedar's cost."""
    table = world()
    test = table.split(0).test
    seed, rival = one(table, Fixed("dear", (0.0, 0.0, 1.0)))
    assert seed.query_ids == test.query_ids
    assert rival.earned_N.tolist() == test.rows.score_NM[:, 2].tolist()
    assert rival.sweep[0].quality == pytest.approx(test.rows.score_NM[:, 2].mean())
    assert rival.sweep[0].realised_usd == pytest.approx(test.cost_usd_NM[:, 2].mean())


def test_realised_and_predicted_costs_are_two_things():
    """Test rows whose answers were twice as long as foreseen cost twice the prediction."""
    table = world()
    is_test_N = np.isin(table.query_ids, table.split(0).test.query_ids)
    dearer = dataclasses.replace(
        table, cost_usd_NM=np.where(is_test_N[:, None], 2 * table.cost_usd_NM, table.cost_usd_NM)
    )
    rival = Fixed("dear", (0.0, 0.0, 1.0))
    before, after = (one(rows, rival)[1].sweep[0] for rows in (table, dearer))
    assert after.realised_usd == pytest.approx(2 * before.realised_usd)
    assert after.predicted_usd == before.predicted_usd


def test_a_sweep_grows_cheaper():
    """Of predicted cost a higher weight never buys more; the last point is the cheapest choice."""
    table = world()
    _, rival = one(table, Linear())
    assert [point.cost_weight for point in rival.sweep] == list(COST_WEIGHTS)
    predicted_usd = [point.predicted_usd for point in rival.sweep]
    assert (np.diff(predicted_usd) <= 1e-15).all()
    cheapest_NM = CostModel(table.split(0).train).predicted(table.split(0).test)
    assert predicted_usd[-1] == pytest.approx(cheapest_NM.min(axis=1).mean(), rel=1e-3)


def test_a_rival_that_learns_beats_the_best_single_at_a_tenth_of_its_cost():
    """Cedar is always good and dear; aster and birch share the queries among them."""
    seed, rival = one(world(1000), Linear())
    assert rival.chosen.quality == pytest.approx(seed.best_single.point.quality, abs=0.05)
    assert rival.chosen.realised_usd < 0.15 * seed.best_single.point.realised_usd
    assert rival.chosen.cost_weight > 0


def test_labels_and_costs_of_test_rows_change_no_choice():
    """Neither what is predicted, nor the weight, nor whom the best single is."""
    table = world()
    is_test_N = np.isin(table.query_ids, table.split(0).test.query_ids)
    turned = dataclasses.replace(
        table,
        rows=dataclasses.replace(
            table.rows,
            score_NM=np.where(is_test_N[:, None], 1 - table.rows.score_NM, table.rows.score_NM),
        ),
        cost_usd_NM=np.where(is_test_N[:, None], 7.0, table.cost_usd_NM),
    )
    (seed, rival), (other_seed, other) = one(table, Linear()), one(turned, Linear())
    assert other.earned_N.tolist() == (1 - rival.earned_N).tolist()
    assert other.chosen.cost_weight == rival.chosen.cost_weight
    assert [p.predicted_usd for p in other.sweep] == [p.predicted_usd for p in rival.sweep]
    assert other_seed.best_single.earned_N.tolist() == (1 - seed.best_single.earned_N).tolist()


def test_the_weight_is_chosen_on_rows_that_the_fit_did_not_see():
    """Each past row is left out of one fit for the weight; no test row is ever in any."""
    table = world()
    split = table.split(3)
    witness = Witness("witness", (1.0, 0.0, 0.0))
    run_protocol(table, [witness], seeds=[3])
    *turns, (train, validation, _) = witness.fits
    *judged, test = (rows.table.query_ids for rows in witness.asked)
    past = sorted((*split.train.query_ids, *split.validation.query_ids))
    assert len(turns) == len(judged) == NUM_TURNS
    assert sorted(itertools.chain(*judged)) == past
    for (learned, held, seed), out in zip(turns, judged, strict=True):
        assert seed == 3
        assert sorted([*learned.table.query_ids, *held.table.query_ids, *out]) == past
        assert not set(learned.group_N) & set(held.group_N)
        assert len(held.group_N) == pytest.approx(len(past) / 10, abs=1)
    assert (train.table.query_ids, test) == (split.train.query_ids, split.test.query_ids)
    assert validation.table.query_ids == split.validation.query_ids


def test_the_weight_has_the_best_rank_score_on_the_rows_left_out():
    """Aster alone earns there, so the weight keeps to it, though cedar is thought better."""
    score_NM = np.tile([0.0, 0.0, 1.0], (100, 1))
    table = table_of(score_NM, np.tile([1.0, 2.0, 4.0], (100, 1)))
    is_past_N = ~np.isin(table.query_ids, table.split(0).test.query_ids)
    score_NM[is_past_N] = [1.0, 0.0, 0.0]
    turned = table_of(score_NM, table.cost_usd_NM)
    rival = Fixed("cedar", (0.5, 0.0, 1.0))
    chosen = one(turned, rival)[1].chosen
    assert chosen.cost_weight > 0.5 / 0.75
    assert chosen.quality == 0.0
    assert one(turned, rival, chooses_weight=False)[1].chosen.quality == 1.0


def test_rivals_see_the_same_projected_rows():
    """Fitted on the training rows, as wide everywhere, with finite costs and a fixed group."""
    witness = Witness("witness", (1.0, 0.0, 0.0))
    run_protocol(world(), [witness], seeds=[0], chooses_weight=False)
    ((train, validation, _),) = witness.fits
    assert np.square(train.projected_ND[:, :4]).sum(axis=1).mean() == pytest.approx(1, rel=1e-4)
    assert {rows.projected_ND.shape[1] for rows in (train, validation, *witness.asked)} == {6}
    assert all(np.isfinite(rows.cost_usd_NM).all() for rows in (train, *witness.asked))


def test_a_pool_without_costs_is_judged_by_quality():
    """No weight is chosen, one fit suffices."""
    witness = Witness("witness", (1.0, 0.0, 0.0))
    result = run_protocol(table_of(np.ones((20, 3))), [witness], seeds=[0])
    assert not result.has_costs
    assert result.seeds[0].rivals[0].chosen.cost_weight == 0.0
    assert len(witness.fits) == 1


def test_rows_that_nobody_answered_are_left_out():
    """Ten of forty: train, validation and test make thirty."""
    score_NM = np.ones((40, 3))
    score_NM[::4] = np.nan
    seed, _ = one(table_of(score_NM), Fixed("any", (1, 0, 0)))
    assert seed.num_train + seed.num_validation + len(seed.query_ids) == 30


def test_each_turn_is_told_and_each_fit_timed():
    """In the order of seeds and rivals; a clock of whole seconds counts one a fit."""
    told = []
    result = run_protocol(
        world(),
        [Fixed("one", (1, 0, 0)), Fixed("two", (0, 1, 0))],
        seeds=[4, 2],
        on_fit=lambda *turn: told.append(turn),
        clock=count(0.0).__next__,
    )
    assert told == [("garden", seed, name) for seed in (4, 2) for name in ("one", "two")]
    assert [seed.seed for seed in result.seeds] == [4, 2]
    assert {rival.fit_s for seed in result.seeds for rival in seed.rivals} == {1.0}


def test_a_result_is_json():
    """Strictly so, with all that a report needs."""
    result = run_protocol(world(), [Linear()], seeds=[0])
    record = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert record["pool"] == "garden"
    assert record["candidate_ids"] == ["aster", "birch", "cedar"]
    rival = record["seeds"][0]["rivals"][0]
    assert rival["earned_N"] == result.seeds[0].rivals[0].earned_N.tolist()
    assert len(rival["sweep"]) == len(COST_WEIGHTS)


def test_what_is_not_a_number_has_a_name_in_json():
    """NaN is null, infinity "inf"; the rest stays."""
    assert plain({"a": (math.nan, math.inf, -math.inf, 1.5, 2, "x", True)}) == {
        "a": [None, "inf", "-inf", 1.5, 2, "x", True]
    }


@pytest.mark.parametrize(
    ("rivals", "message", "name"),
    [
        ([Fixed("one", (1, 0, 0)), Fixed("one", (0, 1, 0))], "unique names", "rivals"),
        ([Fixed("odd", (1, 0))], "'odd' must predict", "quality"),
        ([Fixed("odd", (1, 0, math.nan))], "40 not finite", "quality"),
    ],
)
def test_what_cannot_be_judged_is_refused(rivals, message, name):
    """Two of one name, too few candidates, a quality that is none."""
    with pytest.raises(InvalidInputError, match=message) as caught:
        run_protocol(world(), rivals, seeds=[0], chooses_weight=False)
    assert caught.value.field == name


@pytest.mark.parametrize(("rivals", "seeds"), [([], [0]), ([Fixed("any", (1, 0, 0))], [])])
def test_a_run_of_nothing_is_refused(rivals, seeds):
    """It takes a rival and a seed."""
    with pytest.raises(InvalidInputError, match="needs seeds and rivals"):
        run_protocol(world(), rivals, seeds=seeds)


def test_a_pool_too_small_to_cut_is_refused():
    """One group leaves nothing to test on."""
    table = table_of(np.ones((20, 3)), group_N=np.zeros(20, dtype=np.int64))
    with pytest.raises(InvalidInputError, match=r"\[20, 0, 0\]"):
        run_protocol(table, [Fixed("any", (1, 0, 0))], seeds=[0])
