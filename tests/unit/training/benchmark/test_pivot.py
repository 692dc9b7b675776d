"""From a list of answers to a table: averages, gaps, costs and groups."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from router.candidate import Price
from router.errors import InvalidInputError
from training.benchmark.pivot import Selection, to_outcome_table, unpriced

NAN = float("nan")
ANSWERS = [
    ("q1", "a", 1.0),
    ("q1", "a", 0.0),
    ("q1", "b", 1.0),
    ("q2", "a", 0.25),
    ("q2", "b", 0.5),
    ("q2", "c", 1.0),
    ("q3", "c", 0.0),
]


@pytest.fixture
def pivot(made_up):
    """Return a function that lays a source out, feature rows numbered."""

    def lay_out(source, **selection):
        features_NF = np.arange(3.0 * len(source), dtype=np.float32).reshape(-1, 3)
        return to_outcome_table(source, features_NF, made_up.schema, Selection(**selection))

    return lay_out


def test_repeated_answers_are_averaged(made_up, pivot):
    """Query 1 got 1 and 0 from a: the score is 0.5, and so are the means of what was recorded."""
    source = made_up.source(
        ANSWERS,
        input_tokens=[10, 20, 30, NAN, 50, 60, 70],
        output_tokens=[1, NAN, 3, 4, 5, 6, 7],
        latency_s=[0.1, 0.3, 1, 1, 1, 1, 1],
    )
    rows = pivot(source).rows
    assert rows.candidate_ids == ("a", "b", "c")
    np.testing.assert_array_equal(rows.score_NM, [[0.5, 1.0, NAN], [0.25, 0.5, 1.0]])
    np.testing.assert_array_equal(rows.input_tokens_NM, [[15, 30, NAN], [NAN, 50, 60]])
    np.testing.assert_array_equal(rows.output_tokens_NM, [[1, 3, NAN], [4, 5, 6]])
    assert rows.latency_s_NM[0, 0] == pytest.approx(0.2)
    assert np.isnan(rows.ttft_s_NM).all()


def test_observed_is_available_for_sure(made_up, pivot):
    """Nobody knows what the others would have earned: they count as absent."""
    rows = pivot(made_up.source(ANSWERS)).rows
    assert rows.available_NM.tolist() == [[True, True, False], [True, True, True]]
    np.testing.assert_array_equal(rows.propensity_NM, [[1, 1, NAN], [1, 1, 1]])
    assert rows.full_information().all()


def test_rows_can_be_asked_to_be_complete_or_to_stand_alone(made_up, pivot):
    """Query 3 has one answer and query 1 lacks c."""
    source = made_up.source(ANSWERS)
    assert pivot(source).query_ids == ("q1", "q2")
    assert pivot(source, complete=True).query_ids == ("q2",)
    assert pivot(source, min_observed=1).query_ids == ("q1", "q2", "q3")
    assert pivot(source, min_observed=3).query_ids == ("q2",)
    np.testing.assert_array_equal(pivot(source, complete=True).rows.features_NF, [[3, 4, 5]])


def test_candidates_come_by_list_or_by_number_of_queries(made_up, pivot):
    """A list keeps its order; a repeated answer counts once."""
    source = made_up.source([*ANSWERS, ("q2", "c", 1.0)])
    assert pivot(source, candidates=("c", "a")).rows.candidate_ids == ("c", "a")
    answers = [*ANSWERS, ("q3", "a", 0.0), ("q2", "b", 0.5)]
    by_number = pivot(made_up.source(answers), min_outcomes=2, min_observed=1)
    assert by_number.rows.candidate_ids == ("a", "b", "c")
    with pytest.raises(InvalidInputError, match="two candidates"):
        pivot(made_up.source(answers), min_outcomes=3)


def test_data_sets_can_be_chosen(made_up, pivot):
    """Models are counted over the chosen data sets alone."""
    source = made_up.source(ANSWERS, datasets=("x", "y", "y"))
    table = pivot(source, datasets=("x",))
    assert table.query_ids == ("q1",)
    assert table.datasets == ("x",)
    assert table.rows.candidate_ids == ("a", "b")
    with pytest.raises(InvalidInputError, match="no query of z"):
        pivot(source, datasets=("x", "z"))


def test_costs_are_recorded_or_worked_out(made_up, pivot):
    """b: (30 x 2 + 3 x 10) / 1e6 = 9e-5; a's is recorded; c has no price of its own."""
    source = made_up.source(
        ANSWERS,
        input_tokens=[10, 10, 30, 30, 30, 60, 70],
        output_tokens=[1, 1, 3, 3, 3, 6, 7],
        cost_usd=[0.5, 0.7, NAN, 0.1, NAN, NAN, NAN],
        prices={
            "a": Price(input_usd_per_mtok=1, output_usd_per_mtok=1),
            "b": Price(input_usd_per_mtok=2, output_usd_per_mtok=10),
        },
    )
    cost_NM = pivot(source).cost_usd_NM
    np.testing.assert_allclose(cost_NM, [[0.6, 9e-5, NAN], [0.1, 9e-5, NAN]])


def test_a_missing_price_is_the_median_of_the_pool(made_up, pivot):
    """Of 1 and 3 that is 2; without any price it is 0."""
    prices = {
        "a": Price(input_usd_per_mtok=1, output_usd_per_mtok=10),
        "b": Price(input_usd_per_mtok=3, output_usd_per_mtok=30),
    }
    source = made_up.source(ANSWERS, prices=prices)
    table = pivot(source)
    assert table.candidates[2].price == Price(input_usd_per_mtok=2, output_usd_per_mtok=20)
    assert unpriced(source, table.rows.candidate_ids) == ("c",)
    free = pivot(made_up.source(ANSWERS))
    assert {c.price for c in free.candidates} == {
        Price(input_usd_per_mtok=0, output_usd_per_mtok=0)
    }


def test_groups_belong_to_their_data_set(made_up, pivot):
    """Equal group names of two data sets differ, and a query without group stands alone."""
    answers = [(f"q{i}", model, 1.0) for i in range(6) for model in "ab"]
    groups = ("g", "g", "g", None, None, "h")
    source = made_up.source(answers, groups=groups, datasets=("x", "x", "y", "y", "y", "y"))
    first, second, *rest = pivot(source).rows.group_N.tolist()
    assert first == second
    assert len({first, *rest}) == 5


def test_sizes_come_from_the_question(made_up, pivot, tmp_path):
    """Characters and images are counted, and every candidate may be shown as many."""
    source = made_up.source(ANSWERS)
    source = dataclasses.replace(source, images=((tmp_path,) * 3, (), ()))
    table = pivot(source)
    assert table.rows.num_chars_N.tolist() == [len("question q1")] * 2
    assert table.rows.num_images_N.tolist() == [3, 0]
    assert {candidate.max_images for candidate in table.candidates} == {3}


def test_what_cannot_be_laid_out_is_refused(made_up, pivot):
    """An unknown candidate, rows that nobody shares, other features and odd bounds."""
    source = made_up.source(ANSWERS)
    with pytest.raises(InvalidInputError, match="no answer of z; it has a, b, c"):
        pivot(source, candidates=("a", "z"))
    apart = made_up.source([("q1", "a", 1.0), ("q2", "b", 1.0)])
    with pytest.raises(InvalidInputError, match="no query was answered by enough of a, b"):
        pivot(apart)
    features_NF = np.zeros((3, 2), dtype=np.float32)
    with pytest.raises(InvalidInputError, match=r"\(3, 2\) are not \(3, 3\)"):
        to_outcome_table(source, features_NF, made_up.schema, Selection())
    with pytest.raises(InvalidInputError, match="min_observed must be 1 or more"):
        Selection(min_observed=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query_ids": ("q1", "q1", "q3")}, "'q1' is there twice"),
        ({"questions": ("a",)}, "query columns differ in length"),
        ({"models": ("a",)}, "model_O must lie in 0 to 0"),
    ],
)
def test_contradictory_sources_are_refused(made_up, change, message):
    """Ids are unique, columns agree, and every answer points to a query and a model."""
    with pytest.raises(InvalidInputError, match=message):
        dataclasses.replace(made_up.source(ANSWERS), **change)


@pytest.mark.parametrize("score", [-0.1, 1.1, NAN])
def test_scores_lie_in_zero_to_one(made_up, score):
    """No reader may bring another."""
    with pytest.raises(InvalidInputError, match="0 to 1"):
        made_up.source([("q1", "a", score)])


def test_outcome_columns_agree(made_up):
    """A shorter column is refused."""
    outcomes = made_up.source(ANSWERS).outcomes
    assert len(outcomes) == len(ANSWERS)
    with pytest.raises(InvalidInputError, match="differ in length"):
        dataclasses.replace(outcomes, score_O=np.ones(2))
