"""A projection balances blocks, never breaks on thin data, and survives storage."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from router.errors import ArtifactError, InvalidInputError
from router.features.project import Projection
from router.features.schema import FeatureBlock, FeatureSchema

SCHEMA = FeatureSchema(
    tuple(
        FeatureBlock(name=name, encoder=name, sha256="00", dim=dim)
        for name, dim in [("wide", 40), ("small", 3)]
    )
)
values = st.floats(-1e6, 1e6, width=32)
some_features = st.integers(1, 12).flatmap(lambda n: arrays(np.float32, (n, 43), elements=values))


def sample(num_rows=200, seed=0):
    """Return features whose wide block varies in five directions."""
    rng = np.random.default_rng(seed)
    wide = rng.normal(size=(num_rows, 5)) @ rng.normal(size=(5, 40)) + 3
    return np.hstack([wide, 50 * rng.normal(size=(num_rows, 3))]).astype(np.float32)


@settings(deadline=None)
@given(some_features, some_features)
def test_outputs_are_finite_and_of_one_width(fitted_NF, seen_NF):
    """Any finite features, down to one row, give finite outputs of the announced width."""
    projection = Projection.fit(fitted_NF, SCHEMA, num_components=8)
    projected = projection.transform(seen_NF)
    assert projected.shape == (len(seen_NF), projection.num_outputs)
    assert projection.num_outputs == 3 + min(8, max(1, len(fitted_NF) - 1))
    assert projected.dtype == np.float32
    assert np.isfinite(projected).all()


@settings(deadline=None)
@given(some_features)
def test_a_row_depends_on_no_other_row(features_NF):
    """One by one or all at once, reordered or not, each row projects alike."""
    projection = Projection.fit(sample(), SCHEMA, num_components=8)
    together = projection.transform(features_NF)
    alone = np.vstack([projection.transform(row[None]) for row in features_NF])
    assert np.allclose(together, alone, atol=1e-4)
    assert np.allclose(projection.transform(features_NF[::-1]), together[::-1], atol=1e-4)


def test_blocks_have_equal_energy():
    """Over the fitted rows each block's mean squared length is one."""
    projected = Projection.fit(sample(), SCHEMA, num_components=8).transform(sample())
    for block in (projected[:, :8], projected[:, 8:]):
        assert np.isclose(np.square(block).sum(axis=1).mean(), 1.0, atol=1e-4)


@pytest.mark.parametrize("num_rows", [30, 200])
def test_components_explain_what_varies(num_rows):
    """Five components hold a block of rank five: distances survive, by either way to the SVD."""
    features = sample(num_rows)
    projection = Projection.fit(features, SCHEMA, num_components=5)
    rows = projection.components["wide"]
    assert np.allclose(rows @ rows.T, np.eye(5), atol=1e-4)
    scaled = (features - projection.mean)[:, :40] * projection.inverse_deviation[:40]
    assert np.allclose(scaled @ rows.T @ rows, scaled, atol=1e-2)


def test_the_sign_is_fixed():
    """The largest loading of each component is positive."""
    rows = Projection.fit(sample(), SCHEMA, num_components=5).components["wide"]
    largest = np.abs(rows).argmax(axis=1)
    assert (rows[np.arange(5), largest] > 0).all()


def test_absent_blocks_stay_zero_and_do_not_shift_the_fit():
    """Rows of zeros in a wide block are missing, not a picture of nothing."""
    features = sample()
    missing = features.copy()
    missing[:, :40] = 0
    both = Projection.fit(np.vstack([features, missing]), SCHEMA, num_components=5)
    only = Projection.fit(features, SCHEMA, num_components=5)
    assert np.allclose(both.components["wide"], only.components["wide"])
    assert (both.transform(missing)[:, :5] == 0).all()
    none = Projection.fit(missing, SCHEMA, num_components=5)
    assert none.num_outputs == 8
    assert (none.transform(features)[:, :5] == 0).all()


def test_constant_columns_say_nothing():
    """A column that never varied adds nothing, even when it does vary later."""
    features = sample()
    features[:, 41] = 1234.567
    projection = Projection.fit(features, SCHEMA)
    features[:, 41] = -9e5
    assert (projection.transform(features)[:, 41] == 0).all()


def test_arrays_round_trip():
    """What to_arrays wrote transforms alike when read back."""
    projection = Projection.fit(sample(), SCHEMA, num_components=8)
    again = Projection.from_arrays(projection.to_arrays(), SCHEMA)
    assert (again.transform(sample(seed=1)) == projection.transform(sample(seed=1))).all()


def test_unsound_arrays_are_refused():
    """Another schema, a missing, misshapen or infinite array is an artifact error."""
    stored = Projection.fit(sample(), SCHEMA, num_components=8).to_arrays()
    with pytest.raises(ArtifactError, match="another feature schema"):
        Projection.from_arrays(stored, FeatureSchema(SCHEMA.blocks[::-1]))
    with pytest.raises(ArtifactError, match="lacks the array 'gain'"):
        Projection.from_arrays({k: v for k, v in stored.items() if k != "gain"}, SCHEMA)
    with pytest.raises(ArtifactError, match="lacks the array"):
        Projection.from_arrays({k: v for k, v in stored.items() if "wide" not in k}, SCHEMA)
    for wrong in (np.zeros(42), np.zeros((1, 43)), np.full(43, np.inf)):
        with pytest.raises(ArtifactError, match="mean of shape"):
            Projection.from_arrays(stored | {"mean": wrong}, SCHEMA)


def test_unsound_features_are_refused():
    """Wrong width, no rows and infinities are the caller's errors."""
    infinite = np.full((2, 43), np.inf, dtype=np.float32)
    for wrong in (np.zeros((2, 42), np.float32), np.zeros((0, 43), np.float32), infinite):
        with pytest.raises(InvalidInputError):
            Projection.fit(wrong, SCHEMA)
    with pytest.raises(InvalidInputError, match="not \\(N, 43\\)"):
        Projection.fit(sample(), SCHEMA).transform(np.zeros(43, np.float32))
