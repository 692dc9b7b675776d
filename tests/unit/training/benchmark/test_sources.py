"""From the command line's words to a table with features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from router.errors import InvalidInputError
from training.benchmark.pivot import Selection
from training.benchmark.sources import SourceSpec, load_table


@pytest.fixture
def load(encoder_folder, tmp_path):
    """Return a loader with a cache of its own that keeps its lines."""

    def load_spec(**fields):
        lines = []
        table = load_table(
            SourceSpec(**fields),
            report=lines.append,
            cache_folder=tmp_path / "cache",
            encoder_folder=encoder_folder,
        )
        return table, lines

    return load_spec


def test_own_data_becomes_a_table(generic, load):
    """Features have the encoders' layout, costs come from tokens, groups stay together."""
    table, lines = load(data=generic)
    assert table.name == "mine"
    assert len(table) == 3
    assert table.rows.features_NF.shape == (3, table.schema.num_features)
    assert table.rows.num_images_N.tolist() == [1, 2, 0]
    assert table.cost_usd_NM[0].tolist() == pytest.approx([0.5, (100 * 1 + 5 * 2) / 1e6])
    assert table.rows.group_N[0] == table.rows.group_N[1]
    assert lines[-1] == "mine: 3 queries, 2 candidates, 6 outcomes"


def test_unknown_prices_are_told(generic, load):
    """All of them, or those that get the median."""
    (generic / "models.csv").write_text(
        "model,input_usd_per_mtok,output_usd_per_mtok\nsmall,1,2\nlarge,,\n"
    )
    table, lines = load(data=generic)
    assert lines[-1] == "mine: 1 candidates without a price get the median of the pool: large"
    assert table.candidates[0].price.output_usd_per_mtok == 2
    (generic / "models.csv").unlink()
    _, lines = load(data=generic)
    assert lines[-1] == "mine: 2 candidates without a price get 0: large, small"


def test_a_selection_may_be_given(generic, load):
    """It replaces the default of two observed candidates a row."""
    table, _ = load(data=generic, selection=Selection(datasets=("sums",)))
    assert table.query_ids == ("q3",)


def test_a_published_pool_carries_its_name(tmp_path, made_up, load):
    """Its own selection applies: 300 answers of each candidate."""
    query_ids = [str(i) for i in range(300)]
    made_up.write_table(
        tmp_path / "text" / "queries.parquet",
        query_id=query_ids,
        dataset=["d"] * 300,
        question=["a short question"] * 300,
    )
    made_up.write_table(
        tmp_path / "text" / "outcomes.parquet",
        query_id=[*query_ids, *query_ids, "0"],
        dataset=["d"] * 601,
        base_model=["a"] * 300 + ["b"] * 300 + ["rare"],
        mode=["direct"] * 601,
        score=[1.0] * 601,
    )
    table, _ = load(published=tmp_path / "text", pool="text")
    assert table.name == "text"
    assert table.rows.candidate_ids == ("a", "b")
    assert len(table) == 300


def test_mmr_bench_becomes_a_table(tmp_path, made_up, load):
    """The two models share both rows."""
    (tmp_path / "MMStar").mkdir()
    (tmp_path / "MMStar" / "0.jpg").write_bytes(made_up.png())
    (tmp_path / "MMStar" / "1.jpg").write_bytes(made_up.png("blue"))
    path = tmp_path / "MMR-Bench.csv"
    path.write_text(
        "dataset_idx,question,m_correct,n_correct,m_cost,n_cost\n"
        "MMStar_0,a,1,0,0.5,0.25\nMMStar_1,b,0,1,0.5,0.25\n"
    )
    table, _ = load(mmr_bench=path)
    assert table.name == "mmr-bench"
    assert np.array_equal(table.rows.score_NM, [[1, 0], [0, 1]])
    assert np.array_equal(table.cost_usd_NM, [[0.5, 0.25]] * 2)


def test_vl_router_bench_becomes_a_table(tmp_path, made_up, load):
    """The built layout, in which questions may lack an image."""
    root = tmp_path / "built"
    made_up.write_table(
        root / "ORACLE" / "score" / "d.parquet",
        sample_id=["d/0", "d/0"],
        model_id=["GPT4o", "SmolVLM2"],
        quality=[1.0, 0.0],
    )
    (root / "BENCHMARKS" / "t").mkdir(parents=True)
    (root / "BENCHMARKS" / "t" / "d_samples.jsonl").write_text('{"sample_id": "d/0"}\n')
    table, lines = load(vl_router_bench=root)
    assert table.name == "vl-router-bench"
    assert table.candidates[0].price.output_usd_per_mtok == 10
    assert "vl-router-bench: 1 questions without their image" in lines


@pytest.mark.parametrize("fields", [{}, {"data": Path("a"), "published": Path("b")}])
def test_one_source_is_named(fields):
    """None and two are refused with the options there are."""
    with pytest.raises(
        InvalidInputError, match="--data, --published, --mmr-bench, --vl-router-bench"
    ):
        SourceSpec(**fields)
