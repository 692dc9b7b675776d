"""A question set on disk is what was generated."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from infra.zoo.export import SCHEMA, write_question_set
from infra.zoo.questions import generate


def test_a_set_reads_back_as_it_was_written(tmp_path):
    """Rows keep order and values, and pictures their pixels."""
    questions = list(generate(60, seed=11))
    path = write_question_set(tmp_path / "set", questions)
    table = pq.read_table(path)
    assert table.schema.equals(SCHEMA)
    for row, question in zip(table.to_pylist(), questions, strict=True):
        images = row.pop("images")
        assert row.pop("kind") == row["task"]
        assert row == {name: getattr(question, name) for name in row}
        assert len(images) == len(question.images)
        for name, image in zip(images, question.images, strict=True):
            with Image.open(path.parent / name) as stored:
                assert np.array_equal(np.asarray(stored), np.asarray(image))


def test_pictures_are_named_by_relative_paths(tmp_path):
    """A set can be moved: its paths stay inside its folder."""
    path = write_question_set(tmp_path, generate(20, seed=1))
    names = [name for row in pq.read_table(path).to_pylist() for name in row["images"]]
    assert names
    assert all(name.startswith("images/") and ".." not in name for name in names)
