"""The generic form: what is there is read, what is wrong is named with its remedy."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from router.candidate import Price
from router.errors import InvalidInputError
from training.benchmark.parquet_source import read_parquet_source


def change(folder, name, **columns):
    """Replace columns of a file; None drops one."""
    path = folder / f"{name}.parquet"
    table = pq.read_table(path)
    for column, values in columns.items():
        position = table.column_names.index(column)
        table = table.remove_column(position)
        if values is not None:
            table = table.append_column(column, pa.array(values))
    pq.write_table(table, path)


def test_every_column_is_read(generic):
    """Questions, images, groups, data sets, measures and prices arrive as written."""
    source = read_parquet_source(generic)
    assert source.name == "mine"
    assert source.query_ids == ("q1", "q2", "q3")
    assert source.questions[2] == "How much is 1 + 1?"
    first, second = generic / "images" / "a.png", generic / "images" / "b.png"
    assert source.images == ((first,), (first, second), ())
    assert source.groups == ("photo", "photo", None)
    assert source.datasets == ("shop", "shop", "sums")
    assert source.models == ("large", "small")
    assert source.outcomes.query_O.tolist() == [0, 0, 1, 1, 2, 2]
    assert source.outcomes.model_O.tolist() == [1, 0] * 3
    assert source.outcomes.score_O.tolist() == [0.0, 1.0, 0.25, 0.75, 1.0, 1.0]
    np.testing.assert_array_equal(source.outcomes.input_tokens_O[:4], [100, 110, np.nan, 210])
    np.testing.assert_array_equal(source.outcomes.cost_usd_O[:2], [np.nan, 0.5])
    np.testing.assert_array_equal(source.outcomes.latency_s_O[4:], [0.2, np.nan])
    assert source.prices["large"] == Price(input_usd_per_mtok=10, output_usd_per_mtok=20)


def test_only_six_columns_are_needed(tmp_path, made_up):
    """A single path, numbers as ids and true or false as scores will do."""
    made_up.write_table(
        tmp_path / "queries.parquet",
        query_id=[1, 2],
        question=["a", None],
        image_path=["images/a.png", None],
    )
    made_up.write_table(
        tmp_path / "outcomes.parquet", query_id=[1, 2], model=["m", "m"], score=[True, False]
    )
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(made_up.png())
    source = read_parquet_source(tmp_path)
    assert source.query_ids == ("1", "2")
    assert source.questions == ("a", "")
    assert [len(images) for images in source.images] == [1, 0]
    assert source.datasets == (tmp_path.name,) * 2
    assert source.groups == (None, None)
    assert source.outcomes.score_O.tolist() == [1.0, 0.0]
    assert np.isnan(source.outcomes.output_tokens_O).all()
    assert source.prices == {}


def test_prices_may_be_parquet_and_incomplete(generic, made_up):
    """A model whose price is null has none."""
    (generic / "models.csv").unlink()
    made_up.write_table(
        generic / "models.parquet",
        model=["small", "large"],
        input_usd_per_mtok=[1.0, None],
        output_usd_per_mtok=[2.0, 3.0],
    )
    assert set(read_parquet_source(generic).prices) == {"small"}


@pytest.mark.parametrize(
    ("name", "columns", "message"),
    [
        ("queries", {"question": None}, r"queries.parquet lacks the column question"),
        ("queries", {"image_path": None}, r"queries.parquet lacks the column image_path"),
        ("outcomes", {"score": None}, r"outcomes.parquet lacks the column score"),
        ("queries", {"query_id": ["q1", "q1", "q3"]}, r"query_id holds 'q1' twice"),
        ("queries", {"query_id": ["q1", None, "q3"]}, r"query_id is empty in row 1"),
        ("queries", {"image_path": [1, 2, 3]}, r"image_path holds 1; give a path"),
        ("queries", {"question": [["a"], ["b"], ["c"]]}, r"question must hold text"),
        ("outcomes", {"score": [0, 1, 2, 0, 1, 0]}, r"score must lie in 0 to 1, row 2 holds 2"),
        ("outcomes", {"score": [0, 1, None, 0, 1, 0]}, r"score is null in row 2; drop"),
        ("outcomes", {"score": ["good"] * 6}, r"score must hold numbers"),
        ("outcomes", {"cost_usd": [-1.0] * 6}, r"cost_usd must lie in 0 to inf"),
        ("outcomes", {"query_id": ["q1"] * 5 + ["q9"]}, r"'q9', which no query has \(1 such"),
        ("outcomes", {"model": ["a"] * 5 + [""]}, r"model is empty in row 5"),
        ("queries", {"image_path": ["images/c.png", None, None]}, r"'images/c.png' is no file"),
        ("queries", {"image_path": ["../x.png", None, None]}, r"'../x.png' leaves"),
        ("queries", {"image_path": ["/etc/hostname", None, None]}, r"'/etc/hostname' leaves"),
    ],
)
def test_faults_are_named(generic, name, columns, message):
    """The message holds file, column, value and remedy."""
    change(generic, name, **columns)
    with pytest.raises(InvalidInputError, match=message) as caught:
        read_parquet_source(generic)
    assert str(generic) in str(caught.value)
    assert caught.value.field == next(iter(columns))


def test_links_out_of_the_folder_are_refused(generic, tmp_path, made_up):
    """An image may not be a link to a file elsewhere."""
    (tmp_path / "secret.png").write_bytes(made_up.png())
    (generic / "images" / "b.png").unlink()
    (generic / "images" / "b.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(InvalidInputError, match="leaves"):
        read_parquet_source(generic)


def test_broken_files_are_named(generic, made_up):
    """An absent file, one that is no Parquet and two lists of prices are refused."""
    made_up.write_table(generic / "models.parquet", model=["small"])
    with pytest.raises(InvalidInputError, match=r"models.csv and models.parquet; keep one"):
        read_parquet_source(generic)
    (generic / "outcomes.parquet").write_bytes(b"no parquet")
    with pytest.raises(InvalidInputError, match=r"outcomes.parquet cannot be read"):
        read_parquet_source(generic)
    (generic / "queries.parquet").unlink()
    with pytest.raises(InvalidInputError, match=r"queries.parquet does not exist"):
        read_parquet_source(generic)


def test_a_csv_that_is_none_is_named(generic):
    """Rows of unequal length and bytes that are no text are refused."""
    (generic / "models.csv").write_text("model,input_usd_per_mtok,output_usd_per_mtok\na,1,2,3\n")
    with pytest.raises(InvalidInputError, match=r"models.csv cannot be read"):
        read_parquet_source(generic)
    (generic / "models.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidInputError, match=r"models.csv cannot be read"):
        read_parquet_source(generic)
