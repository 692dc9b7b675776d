"""MMR-Bench: one row per instance, columns by model, images by name."""

from __future__ import annotations

import numpy as np
import pytest

from router.errors import InvalidInputError
from training.benchmark.mmr_bench import read_mmr_bench

CSV = (
    "dataset_idx,question,answer,big_prediction,big_correct,big_token,small_is_correct,"
    "big_cost,small_cost\n"
    'MMStar_0,"Which one,\nA or B?",A,"A, as ""seen""",True,100,0,0.02,0.001\n'
    "SEEDBench2_Plus_7,How many?,2,two,False,300,1,0.06,0.001\n"
    "OCRBench_x1,Read it.,exit,exit,,,1,,0.002\n"
)


@pytest.fixture
def folder(tmp_path, made_up):
    """Return the published layout: the merged CSV beside image folders."""
    (tmp_path / "MMR_Bench.csv").write_text(CSV)
    for name in ("MMStar/0.jpg", "SEEDBenchv2Plus/7.png", "OCRBench/x1.webp"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(made_up.png())
    return tmp_path


def test_an_instance_is_a_query(folder):
    """Quoted line breaks survive, and images are found by data set and number."""
    source = read_mmr_bench(folder / "MMR_Bench.csv")
    assert source.query_ids == ("MMStar_0", "SEEDBench2_Plus_7", "OCRBench_x1")
    assert source.questions[0] == "Which one,\nA or B?"
    assert source.datasets == ("MMStar", "SEEDBench2_Plus", "OCRBench")
    assert source.images[1] == (folder / "SEEDBenchv2Plus" / "7.png",)
    assert source.groups == (None,) * 3
    assert source.notes == ()


def test_each_model_has_its_columns(folder):
    """Both spellings of the score are read, and an empty score is no outcome."""
    source = read_mmr_bench(folder)
    outcomes = source.outcomes
    assert source.models == ("big", "small")
    assert outcomes.model_O.tolist() == [0, 0, 1, 1, 1]
    assert outcomes.query_O.tolist() == [0, 1, 0, 1, 2]
    assert outcomes.score_O.tolist() == [1.0, 0.0, 0.0, 1.0, 1.0]
    assert outcomes.cost_usd_O.tolist() == [0.02, 0.06, 0.001, 0.001, 0.002]
    np.testing.assert_array_equal(outcomes.output_tokens_O, [100, 300] + [np.nan] * 3)


def test_a_price_is_worked_out_of_cost_by_reply_token(folder):
    """big: 0.08 USD for 400 tokens are 200 USD a million; small counted no tokens."""
    prices = read_mmr_bench(folder).prices
    assert set(prices) == {"big"}
    assert prices["big"].output_usd_per_mtok == pytest.approx(200)
    assert prices["big"].input_usd_per_mtok == 0


def test_images_may_be_named_by_a_column(folder):
    """Then nothing is looked for by instance, and the path may not lead out."""
    path = folder / "mine.csv"
    path.write_text("dataset_idx,question,img_path,m_correct\nx_1,a,MMStar/0.jpg,1\nx_1,b,,0\n")
    source = read_mmr_bench(path)
    assert source.images == ((folder / "MMStar" / "0.jpg",), ())
    assert source.query_ids == ("x_1", "x_1#1")
    path.write_text("dataset_idx,question,img_path,m_correct\nx_1,a,../0.jpg,1\n")
    with pytest.raises(InvalidInputError, match=r"column img_path: '../0.jpg' leaves"):
        read_mmr_bench(path)


def test_single_missing_images_are_noted(folder):
    """The question stays, without a picture; a folder without any is an error."""
    (folder / "OCRBench" / "x1.webp").unlink()
    source = read_mmr_bench(folder)
    assert source.images[2] == ()
    assert source.notes == ("1 questions without their image",)
    for name in ("MMStar/0.jpg", "SEEDBenchv2Plus/7.png"):
        (folder / name).unlink()
    with pytest.raises(InvalidInputError, match=r"MMStar/0.jpg; unpack images.tar.gz"):
        read_mmr_bench(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dataset_idx,question\na_1,b\n", "no column <model>_correct"),
        ("question,m_correct\nb,1\n", "lacks the column dataset_idx"),
        ("dataset_idx,question,m_correct\nMMStar_0,b,perhaps\n", "must hold 0, 1, True or False"),
        ("dataset_idx,question,m_correct\nMMStar_0,b,2\n", "m_correct must lie in 0 to 1, not 2"),
        ("dataset_idx,question,m_correct,m_cost\nMMStar_0,b,1,-1\n", "m_cost must lie in 0"),
    ],
)
def test_other_files_are_refused(folder, text, message):
    """The message says what is missing or odd."""
    (folder / "MMR_Bench.csv").write_text(text)
    with pytest.raises(InvalidInputError, match=message):
        read_mmr_bench(folder)


def test_an_empty_folder_is_refused(tmp_path):
    """There is no CSV to read."""
    with pytest.raises(InvalidInputError, match="does not exist"):
        read_mmr_bench(tmp_path)
