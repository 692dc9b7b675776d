"""Published outcomes: who counts as a candidate, and the sizes of the named pools."""

from __future__ import annotations

import numpy as np
import pytest

from router.candidate import Price
from router.errors import InvalidInputError
from training.benchmark.pivot import to_outcome_table
from training.benchmark.published_outcomes import POOLS, pool_selection, read_published


@pytest.fixture
def multimodal(tmp_path, made_up):
    """Return a folder of four queries, of which one lacks its image and one its question."""
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(made_up.png())
    made_up.write_table(
        tmp_path / "queries.parquet",
        query_id=["d/1", "d/2", "d/3", "d/4"],
        dataset=["d"] * 4,
        question=["a?", "", "c?", None],
        image_path=["images/a.jpg", "images/a.jpg", None, "images/a.jpg"],
        group_id=["seed", "seed", None, None],
    )
    made_up.write_table(
        tmp_path / "outcomes.parquet",
        query_id=["d/1", "d/1", "d/1", "d/1", "d/2", "d/3", "d/4"],
        family=["f", "f", "f", "g", "f", "f", "f"],
        mode=["direct", "direct", "cot", "direct", "direct", "direct", "direct"],
        sees_image=[True, True, True, False, True, True, True],
        score=[1.0, 0.0, 1.0, 1.0, 0.5, 1.0, 1.0],
        prompt_tokens=[None, 7.0, None, None, None, None, None],
        cost_usd=[None, 3.0, None, None, None, None, None],
        cost_est_usd=[1.0, 9.0, None, None, None, None, None],
    )
    (tmp_path / "models.csv").write_text(
        "base_model,family,price_in,price_out\nf-1,f,1,10\nf-2,f,3,30\nf-3,f,,\ng-1,g,,\n"
    )
    return tmp_path


def test_direct_answers_of_models_that_saw_the_image_count(multimodal):
    """Other modes, blind models, and queries without image or question are left out."""
    source = read_published(multimodal, "all")
    assert source.query_ids == ("d/1", "d/2")
    assert source.groups == ("seed", "seed")
    assert [source.models[m] for m in source.outcomes.model_O] == ["f", "f", "f"]
    assert source.outcomes.query_O.tolist() == [0, 0, 1]
    assert source.outcomes.score_O.tolist() == [1.0, 0.0, 0.5]


def test_recorded_costs_come_before_estimates(multimodal):
    """Estimates fill what was not recorded, and token counts are only recorded ones."""
    outcomes = read_published(multimodal, "all").outcomes
    np.testing.assert_array_equal(outcomes.cost_usd_O, [1.0, 3.0, np.nan])
    np.testing.assert_array_equal(outcomes.input_tokens_O, [np.nan, 7.0, np.nan])
    assert np.isnan(outcomes.output_tokens_O).all()


def test_a_family_costs_the_mean_of_its_base_models(multimodal):
    """Of 1 and 3 that is 2; a family without a known price has none."""
    assert read_published(multimodal, "all").prices == {
        "f": Price(input_usd_per_mtok=2, output_usd_per_mtok=20)
    }


def test_a_text_answer_is_direct_or_of_the_usual_mode(tmp_path, made_up):
    """Model m is asked directly and in steps; n in steps and with shots, which is rarer."""
    made_up.write_table(
        tmp_path / "queries.parquet",
        query_id=["1", "2"],
        dataset=["d", "d"],
        question=["a", "b"],
    )
    made_up.write_table(
        tmp_path / "outcomes.parquet",
        query_id=["1", "1", "1", "1", "2"],
        dataset=["d"] * 5,
        base_model=["m", "m", "n", "n", "n"],
        mode=["steps", "direct", "shots", "steps", "shots"],
        score=[0.0, 0.25, 0.5, 0.75, 1.0],
    )
    source = read_published(tmp_path, "text")
    assert source.images == ((), ())
    assert source.outcomes.score_O.tolist() == [0.25, 0.75, 1.0]


def test_pools_belong_to_their_kind_of_folder(multimodal):
    """The text pool is not read from a multimodal folder, and unknown pools are named."""
    with pytest.raises(InvalidInputError, match="multimodal folder and holds no pool 'text'"):
        read_published(multimodal, "text")
    with pytest.raises(InvalidInputError, match="no pool is called 'some'; use blindtest"):
        pool_selection("some")


@pytest.mark.parametrize(
    ("pool", "num_rows", "num_candidates"),
    [
        ("blindtest", 7116, 4),
        ("dynamath", 3490, 14),
        ("B_img_5", 2122, 5),
        ("joint_3", 12441, 3),
        ("all", 15510, 60),
    ],
)
def test_named_pools_have_their_known_size(published, made_up, pool, num_rows, num_candidates):
    """Every pool of the development part, gaps only where they are allowed."""
    features_NF = np.zeros((len(published), 3), dtype=np.float32)
    table = to_outcome_table(published, features_NF, made_up.schema, POOLS[pool], name=pool)
    assert (len(table), len(table.candidates)) == (num_rows, num_candidates)
    assert table.name == pool
    observed_NM = table.rows.observed()
    assert observed_NM.all() == (pool != "all")
    assert np.isfinite(table.cost_usd_NM[observed_NM]).all()
    assert all(candidate.price.output_usd_per_mtok > 0 for candidate in table.candidates)


@pytest.fixture(scope="module")
def published(routing_data):
    """Return the multimodal development part."""
    return read_published(routing_data, "all")


def test_text_pool_has_its_known_size(routing_data, made_up):
    """Eighty-seven models on 14,872 queries, all of them with at least two answers."""
    folder = routing_data.with_name("routing-text")
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent")
    source = read_published(folder, "text")
    features_NF = np.zeros((len(source), 3), dtype=np.float32)
    table = to_outcome_table(source, features_NF, made_up.schema, POOLS["text"])
    assert (len(table), len(table.candidates)) == (14872, 87)
