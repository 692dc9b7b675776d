"""One suite over every rival: what ``training.benchmark.rivals.rival`` promises.

Axis legend: N = queries, F = features, M = candidates, K = true kinds.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge as SklearnRidge

from router.candidate import Candidate, Price
from router.errors import InvalidInputError
from router.features.project import Projection
from router.features.schema import FeatureBlock, FeatureSchema
from training.benchmark.rivals.all_rivals import ablations, all_rivals
from training.benchmark.rivals.linear import Ridge, ridge_path
from training.benchmark.rivals.neural import contrast_loss
from training.benchmark.rivals.rival import RivalRows
from training.benchmark.rivals.rows import Known, subset
from training.benchmark.rivals.torch_fit import Labelled, TorchConfig, train_model
from training.benchmark.table import OutcomeTable
from training.data.dataset import TrainingSet

QUALITY_MK = np.array([[0.95, 0.2, 0.2], [0.2, 0.95, 0.2], [0.2, 0.2, 0.95], [0.5, 0.5, 0.5]])
PRICES = {"aster": 0.1, "birch": 0.3, "cedar": 1.0, "dune": 3.0}
SCHEMA = FeatureSchema(
    (
        FeatureBlock(name="text", encoder="made-up", sha256="0" * 64, dim=10),
        FeatureBlock(name="image", encoder="made-up", sha256="1" * 64, dim=6),
    )
)
TRAINING = TorchConfig(max_steps=120, learning_rate=4e-3, batch_size=64)
RIVALS = {rival.name: rival for rival in all_rivals(training=TRAINING)}
NAMES = tuple(RIVALS)

FEATURELESS = {"random", "cheapest", "best_single"}
SEES_LABELS = {"oracle"}
SEEDED_BY_POSITION = {
    "routerdc": "its candidates' embeddings are drawn in the order of the columns",
    "latent_router": "the columns of its profiles are opponents, in the order of the columns",
}


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


class World:
    """Rows whose features tell a kind; each of three candidates is good at one of three kinds."""

    def __init__(self, *, has_gaps=False, order=(0, 1, 2, 3), unseen=None):
        """Make 320 training, 80 validation and 200 test rows.

        Args:
            has_gaps: A third of the scores is missing, whole rows among them.
            order: Order of the candidates.
            unseen: A candidate without any score in the training and validation rows.
        """
        rng = np.random.default_rng(7)
        kind_N = rng.integers(0, 3, 600)
        centres_KF = rng.normal(size=(3, SCHEMA.num_features))
        noise_NF = 0.6 * rng.normal(size=(600, SCHEMA.num_features))
        self.true_NM = QUALITY_MK[:, kind_N].T
        score_NM = (rng.random((600, 4)) < self.true_NM).astype(np.float32)
        missing_NM = rng.random((600, 4)) < 1 / 3
        if has_gaps:
            score_NM[missing_NM] = np.nan
        if unseen is not None:
            score_NM[:400, unseen] = np.nan
        self.order = list(order)
        self.true_NM = self.true_NM[400:, self.order]
        table = _table(
            (centres_KF[kind_N] + noise_NF).astype(np.float32), score_NM, rng, self.order
        )
        parts = [table.subset(np.arange(*cut)) for cut in ((0, 320), (320, 400), (400, 600))]
        projection = Projection.fit(parts[0].rows.features_NF, SCHEMA, num_components=8)
        self.train, self.validation, self.test = (_rows(part, projection) for part in parts)

    def routed(self, quality_NM):
        """Return the true mean quality of choosing the best available prediction."""
        choice_N = np.where(self.test.available_NM, quality_NM, -np.inf).argmax(axis=1)
        return float(self.true_NM[np.arange(len(choice_N)), choice_N].mean())


def _table(features_NF, score_NM, rng, order):
    num_rows = len(score_NM)
    cost_NM = np.array(list(PRICES.values())) * rng.uniform(0.5, 2.0, (num_rows, 1)) / 1e4
    candidates = [
        Candidate(id=name, price=Price(input_usd_per_mtok=price, output_usd_per_mtok=price))
        for name, price in PRICES.items()
    ]
    rows = TrainingSet.of_scores(
        features_NF,
        tuple(candidates[m].id for m in order),
        score_NM[:, order],
        num_chars_N=np.full(num_rows, 100),
        num_images_N=np.ones(num_rows, dtype=np.int64),
    )
    return OutcomeTable(
        name="made-up",
        rows=rows,
        schema=SCHEMA,
        candidates=tuple(candidates[m] for m in order),
        cost_usd_NM=cost_NM[:, order],
        query_ids=tuple(f"query-{n}" for n in range(num_rows)),
        datasets=("made-up",) * num_rows,
    )


def _rows(table, projection):
    return RivalRows(
        projected_ND=projection.transform(table.rows.features_NF),
        score_NM=table.rows.score_NM.astype(np.float64),
        available_NM=table.rows.available_NM,
        cost_usd_NM=table.cost_usd_NM,
        group_N=table.rows.group_N,
        table=table,
    )


@functools.cache
def world_of(*, has_gaps):
    """Return the world, made once."""
    return World(has_gaps=has_gaps)


@functools.cache
def fitted_of(name, *, has_gaps):
    """Return the rival fitted on that world, once."""
    world = world_of(has_gaps=has_gaps)
    return RIVALS[name].fit(world.train, world.validation, seed=0)


@pytest.fixture(params=NAMES)
def name(request):
    """Return each rival's name."""
    return request.param


@pytest.fixture(params=[False, True], ids=["full", "gaps"])
def has_gaps(request):
    """Return whether scores are missing."""
    return request.param


def test_predicts_a_finite_figure_for_every_candidate(name, has_gaps):
    """Rows of which nothing was observed included."""
    quality_NM = fitted_of(name, has_gaps=has_gaps).quality(world_of(has_gaps=has_gaps).test)
    assert quality_NM.shape == (200, 4)
    assert quality_NM.dtype == np.float64
    assert np.isfinite(quality_NM).all()


def test_one_seed_gives_one_answer(name):
    """Fitted twice with one seed it predicts the same, and torch's generator is left alone."""
    world = world_of(has_gaps=True)
    state = torch.random.get_rng_state()
    again = RIVALS[name].fit(world.train, world.validation, seed=0)
    assert torch.equal(torch.random.get_rng_state(), state)
    np.testing.assert_allclose(
        again.quality(world.test), fitted_of(name, has_gaps=True).quality(world.test), atol=1e-6
    )


@pytest.mark.parametrize("blind", sorted(set(NAMES) - SEES_LABELS))
def test_labels_of_the_rows_judged_change_nothing(blind):
    """Neither the scores nor their copy in the table are read."""
    test = world_of(has_gaps=False).test
    turned = dataclasses.replace(
        test,
        score_NM=1.0 - test.score_NM,
        table=dataclasses.replace(
            test.table,
            cost_usd_NM=10.0 * test.table.cost_usd_NM,
            rows=dataclasses.replace(test.table.rows, score_NM=1.0 - test.table.rows.score_NM),
        ),
    )
    fitted = fitted_of(blind, has_gaps=False)
    assert np.array_equal(fitted.quality(turned), fitted.quality(test))


@pytest.mark.parametrize("free", sorted(set(NAMES) - set(SEEDED_BY_POSITION)))
def test_permuting_candidates_permutes_the_quality(free):
    """The order of the columns carries no meaning; exceptions: see `SEEDED_BY_POSITION`."""
    moved = World(has_gaps=True, order=(2, 0, 3, 1))
    quality_NM = RIVALS[free].fit(moved.train, moved.validation, seed=0).quality(moved.test)
    plain_NM = fitted_of(free, has_gaps=True).quality(world_of(has_gaps=True).test)
    # Sums run in another order, and hundreds of steps of AdamW carry that on.
    np.testing.assert_allclose(quality_NM, plain_NM[:, moved.order], atol=1e-3)


def test_rows_are_judged_independently(name, has_gaps):
    """What else is asked about changes nothing; nothing may be asked at all."""
    test, fitted = world_of(has_gaps=has_gaps).test, fitted_of(name, has_gaps=has_gaps)
    index = [150, 3, 77, 3]
    np.testing.assert_allclose(
        fitted.quality(subset(test, index)), fitted.quality(test)[index], atol=1e-5
    )
    assert fitted.quality(subset(test, np.empty(0, dtype=int))).shape == (0, 4)


@pytest.mark.parametrize("learner", sorted(set(NAMES) - FEATURELESS))
def test_learns_who_is_good_at_what(learner, has_gaps):
    """Whoever reads features is far above every fixed choice, all of which are near 0.48."""
    world = world_of(has_gaps=has_gaps)
    fixed = max(world.routed(np.tile(row, (200, 1))) for row in np.eye(4))
    assert fixed < 0.6
    assert world.routed(fitted_of(learner, has_gaps=has_gaps).quality(world.test)) > fixed + 0.12


def test_a_candidate_without_any_score_does_no_harm(name):
    """A column of gaps gets finite figures, and the others are learned all the same."""
    world = World(unseen=3)
    quality_NM = RIVALS[name].fit(world.train, world.validation, seed=0).quality(world.test)
    assert np.isfinite(quality_NM).all()
    if name not in FEATURELESS:
        quality_NM[:, 3] = -np.inf
        assert world.routed(quality_NM) > 0.65


@pytest.mark.parametrize("number", [2, 3])
def test_small_sets_are_enough(name, number):
    """Two rows to learn from, fewer than any number of neighbours, clusters or directions."""
    world = world_of(has_gaps=False)
    rows = subset(world.train, range(number)), subset(world.validation, [0])
    assert np.isfinite(RIVALS[name].fit(*rows, seed=0).quality(world.test)).all()


def test_the_same_query_over_and_over_is_one_query(name):
    """Three distinct queries, asked eighty times in all, are enough and raise no warning."""
    world = world_of(has_gaps=False)
    rows = subset(world.train, [0, 1, 2] * 20), subset(world.validation, [0, 1] * 10)
    assert np.isfinite(RIVALS[name].fit(*rows, seed=0).quality(world.test)).all()


@pytest.mark.parametrize("rival", ablations(Ridge(), training=TRAINING), ids=lambda r: r.name)
def test_latent_router_learns_with_a_part_left_out(rival):
    """Every ablation is a rival that still beats every fixed choice."""
    world = world_of(has_gaps=True)
    quality_NM = rival.fit(world.train, world.validation, seed=0).quality(world.test)
    assert world.routed(quality_NM) > 0.6


def test_names_are_unique_and_unknown_ones_refused():
    """Rivals are chosen by name, and a misspelt name is an error."""
    assert len(RIVALS) == 14
    assert [rival.name for rival in all_rivals({"oracle", "ridge"})] == ["ridge", "oracle"]
    with pytest.raises(InvalidInputError, match="rigde"):
        all_rivals(["rigde"])


def test_the_oracle_parts_ties_by_cost():
    """Of the candidates with the row's best score, the cheapest is chosen."""
    test = world_of(has_gaps=True).test
    choice_N = fitted_of("oracle", has_gaps=True).quality(test).argmax(axis=1)
    best_NM = test.score_NM == np.nan_to_num(test.score_NM, nan=-1.0).max(axis=1, keepdims=True)
    cost_NM = np.where(best_NM, test.cost_usd_NM, np.inf)
    labelled_N = best_NM.any(axis=1)
    assert np.array_equal(choice_N[labelled_N], cost_NM.argmin(axis=1)[labelled_N])


def test_ridge_is_that_of_scikit_learn():
    """Coefficients and intercepts agree for each penalty, on the rows each candidate has."""
    rng = np.random.default_rng(0)
    feature_ND = rng.normal(size=(50, 6)).astype(np.float32)
    score_NM = np.where(rng.random((50, 3)) < 0.7, rng.random((50, 3)), np.nan)
    coefficient_SDM, intercept_SM = ridge_path(Known(feature_ND, score_NM), (0.01, 10.0))
    for s, penalty in enumerate((0.01, 10.0)):
        for m in range(3):
            seen_N = np.isfinite(score_NM[:, m])
            ridge = SklearnRidge(alpha=penalty)
            ridge.fit(feature_ND[seen_N].astype(np.float64), score_NM[seen_N, m])
            np.testing.assert_allclose(coefficient_SDM[s, :, m], ridge.coef_, atol=1e-9)
            assert intercept_SM[s, m] == pytest.approx(ridge.intercept_, abs=1e-9)


def test_the_contrast_pulls_the_best_and_pushes_the_worst():
    """Scores (1, 0, 0.5), similarities (0, 0, 9): ln 2 from the first row, none from a tie."""
    rows = Labelled(
        torch.zeros(2, 1), torch.tensor([[1.0, 0.0, 0.5], [1.0, 1.0, 0.0]]),
        torch.tensor([[True, True, True], [True, True, False]]),
    )  # fmt: skip
    similarity_NM = torch.tensor([[0.0, 0.0, 9.0], [3.0, 1.0, 0.0]], requires_grad=True)
    loss = contrast_loss(similarity_NM, rows)
    loss.backward()
    assert loss.item() == pytest.approx(np.log(2.0))
    np.testing.assert_allclose(similarity_NM.grad, [[-0.5, 0.5, 0.0], [0.0, 0.0, 0.0]])


def test_training_keeps_the_best_weights_and_stops_when_patience_ends():
    """Merit peaks as the weight passes 0.3: the loop stops long before its last step."""
    model = torch.nn.Linear(1, 1, bias=False)
    model.weight.data.zero_()
    config = TorchConfig(max_steps=5000, patience=3, learning_rate=1e-3, weight_decay=0.0)
    best_step = train_model(
        model,
        lambda _: -model.weight.sum(),
        lambda: -abs(model.weight.item() - 0.3),
        num_rows=10,
        config=config,
        seed=0,
    )
    assert best_step == 300
    assert model.weight.item() == pytest.approx(0.3, abs=0.01)


@pytest.mark.parametrize("change", [{"learning_rate": 0.0}, {"max_steps": 0}, {"patience": 0}])
def test_a_training_that_cannot_be_is_refused(change):
    """A bad value is named when the config is built."""
    with pytest.raises(InvalidInputError, match=next(iter(change))):
        TorchConfig(**change)
