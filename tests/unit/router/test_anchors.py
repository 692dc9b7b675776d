"""Anchors: likeness is a share, the basis is uncorrelated, and a fold is the same sum.

Axis legend: N = queries, F = raw features, A = anchors, R = basis functions, M = candidates.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.anchors import Anchors
from router.errors import ArtifactError, InvalidInputError
from router.features.project import Projection
from router.features.schema import FeatureBlock, FeatureSchema


def fit(names=("text", "image"), num_rows=60, num_anchors=20, seed=0, features_NF=None):
    """Return anchors over blocks of these names, and the projected rows they were fitted on."""
    schema = FeatureSchema(
        tuple(FeatureBlock(name=name, encoder="made-up", sha256="0" * 64, dim=6) for name in names)
    )
    if features_NF is None:
        rng = np.random.default_rng(seed)
        features_NF = rng.normal(size=(num_rows, schema.num_features)).astype(np.float32)
    projection = Projection.fit(features_NF, schema)
    projected_ND = projection.transform(features_NF)
    return Anchors.fit(projected_ND, projection, num_anchors=num_anchors, seed=seed), projected_ND


SIDES = [("text",), ("image",), ("text", "image"), ("text", "question", "image", "layout")]


@pytest.mark.parametrize("names", SIDES)
def test_likeness_is_a_share_and_whole_for_the_anchor_itself(names):
    """Words alone, pictures alone or both: 0 to 1, and 1 on the diagonal."""
    anchors, projected_ND = fit(names)
    likeness_NA = anchors.likeness(projected_ND)
    assert likeness_NA.shape == (60, 20)
    assert ((likeness_NA >= 0) & (likeness_NA <= 1)).all()
    assert np.allclose(np.diag(anchors.likeness(anchors.points_AD)), 1.0, atol=1e-5)
    assert likeness_NA.std() > 0.01


def test_likeness_is_worked_out():
    """Apart by 1 in words and 0 in pictures: (e^-1/2 + e^-1 + 1) / 3 with a block of each."""
    anchors = Anchors(
        points_AD=np.zeros((1, 2), dtype=np.float32),
        is_text_D=np.array([True, False]),
        num_blocks_2=(1, 1),
        basis_AR=np.ones((1, 1), dtype=np.float32),
        centre_R=np.zeros(1, dtype=np.float32),
    )
    expected = (np.exp(-0.5) + np.exp(-1.0) + 1.0) / 3.0
    assert anchors.likeness(np.array([[1.0, 0.0]], np.float32)) == pytest.approx(expected)
    assert anchors.basis(np.array([[1.0, 0.0]], np.float32))[0] == pytest.approx([1.0, expected])


@pytest.mark.parametrize("names", SIDES)
def test_the_basis_is_centred_and_uncorrelated_on_its_own_rows(names):
    """A constant first, then principal components, the strongest ahead."""
    anchors, projected_ND = fit(names)
    basis_NR = anchors.basis(projected_ND).astype(np.float64)
    assert basis_NR.shape == (60, anchors.num_functions)
    assert (basis_NR[:, 0] == 1.0).all()
    gram_RR = basis_NR[:, 1:].T @ basis_NR[:, 1:]
    energy_R = np.diag(gram_RR)
    assert np.abs(basis_NR[:, 1:].mean(axis=0)).max() < 1e-4
    assert np.abs(gram_RR - np.diag(energy_R)).max() < 1e-3 * energy_R[0]
    assert (np.diff(energy_R) < 1e-3 * energy_R[0]).all()


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.integers(1, 5), st.sampled_from(SIDES))
def test_folded_weights_give_the_same_sums(seed, num_candidates, names):
    """One product over likenesses equals two over the basis."""
    anchors, projected_ND = fit(names, seed=seed)
    rng = np.random.default_rng(seed)
    token_RM = rng.normal(size=(anchors.num_functions, num_candidates)).astype(np.float32)
    weight_AM, constant_M = anchors.fold(token_RM)
    sums_NM = anchors.likeness(projected_ND) @ weight_AM + constant_M
    assert np.allclose(sums_NM, anchors.basis(projected_ND) @ token_RM, atol=1e-4)


@pytest.mark.parametrize("num_rows", [1, 2, 10])
def test_there_are_never_more_anchors_than_rows(num_rows):
    """Down to a single row, and the basis stays finite."""
    anchors, projected_ND = fit(num_rows=num_rows, num_anchors=1000)
    assert len(anchors.points_AD) == num_rows
    assert np.isfinite(anchors.basis(projected_ND)).all()


def test_equal_rows_give_one_direction():
    """Copies of a query add no function; rounding noise is left out."""
    anchors, projected_ND = fit(features_NF=np.ones((30, 12), dtype=np.float32))
    assert anchors.num_functions == 2
    assert np.isfinite(anchors.basis(projected_ND)).all()


def test_the_seed_draws_the_anchors():
    """Equal seeds give equal anchors, another seed gives others."""
    rows_NF = np.random.default_rng(0).normal(size=(60, 12)).astype(np.float32)
    one, same, other = (fit(features_NF=rows_NF, seed=seed)[0] for seed in (1, 1, 2))
    assert np.array_equal(one.basis_AR, same.basis_AR)
    assert not np.array_equal(one.points_AD, other.points_AD)


@pytest.mark.parametrize("names", SIDES)
def test_a_round_trip_keeps_every_bit(names):
    """Arrays give anchors back that see queries alike."""
    anchors, projected_ND = fit(names)
    again = Anchors.from_arrays(anchors.to_arrays())
    assert np.array_equal(again.basis(projected_ND), anchors.basis(projected_ND))


@pytest.mark.parametrize(
    "change",
    [
        {"basis_AR": None},
        {"num_blocks_2": np.ones(3)},
        {"points_AD": np.ones(3)},
        {"is_text_D": np.ones(3)},
        {"centre_R": np.ones(3)},
    ],
)
def test_arrays_that_are_no_anchors_are_refused(change):
    """Missing and misshapen arrays are artifact errors."""
    arrays = {k: v for k, v in {**fit()[0].to_arrays(), **change}.items() if v is not None}
    with pytest.raises(ArtifactError, match="anchors cannot be used"):
        Anchors.from_arrays(arrays)


def test_no_anchor_at_all_is_refused():
    """Nothing can be compared with nobody."""
    with pytest.raises(InvalidInputError, match="do not fit each other"):
        Anchors(
            points_AD=np.zeros((0, 2), dtype=np.float32),
            is_text_D=np.array([True, False]),
            num_blocks_2=(1, 1),
            basis_AR=np.zeros((0, 1), dtype=np.float32),
            centre_R=np.zeros(1, dtype=np.float32),
        )
