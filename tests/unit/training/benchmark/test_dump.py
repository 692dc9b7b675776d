"""The dump holds what an experiment needs, as plain arrays."""

from __future__ import annotations

import numpy as np
import pytest

from router.errors import InvalidInputError
from training.benchmark.dump import dump_features
from training.benchmark.pivot import Selection, to_outcome_table


@pytest.fixture
def table(made_up):
    """Return two queries by two candidates with a gap, and a third query alone."""
    answers = [("q1", "a", 1.0), ("q1", "b", 0.5), ("q2", "a", 0.0), ("q2", "b", 1.0)]
    source = made_up.source([*answers, ("q3", "b", 1.0)], groups=("g", "g", None))
    features_NF = np.arange(9, dtype=np.float32).reshape(3, 3)
    return to_outcome_table(source, features_NF, made_up.schema, Selection(min_observed=1))


def test_everything_is_there_without_pickle(table, tmp_path):
    """Features, scores, costs, groups, names and blocks, gaps as NaN."""
    path = tmp_path / "new" / "dump.npz"
    dump_features(table, path)
    with np.load(path, allow_pickle=False) as arrays:
        assert np.array_equal(arrays["X"], np.arange(9).reshape(3, 3))
        assert arrays["X"].dtype == np.float32
        nan = np.nan
        np.testing.assert_array_equal(arrays["score"], [[1.0, 0.5], [0.0, 1.0], [nan, 1.0]])
        assert np.isnan(arrays["cost"]).all()
        assert arrays["group"][0] == arrays["group"][1] != arrays["group"][2]
        assert arrays["models"].tolist() == ["a", "b"]
        assert arrays["query_ids"].tolist() == ["q1", "q2", "q3"]
        assert arrays["datasets"].tolist() == ["set"] * 3
        assert arrays["block_names"].tolist() == ["text", "image"]
        assert arrays["block_sizes"].tolist() == [2, 1]


def test_the_name_must_say_npz(table, tmp_path):
    """Else numpy would write to another file than was asked for."""
    with pytest.raises(InvalidInputError, match=r"must end in \.npz"):
        dump_features(table, tmp_path / "dump.bin")
