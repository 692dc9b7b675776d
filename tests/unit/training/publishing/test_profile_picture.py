"""A profile's intervals are honest, and its picture is drawn."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.profile import Profile
from training.publishing.profile_picture import profile_figure, quality_interval


def test_intervals_are_those_of_jeffreys():
    """Eight of ten right: 0.50 to 0.95, as Brown, Cai and DasGupta's table of 2001 has it."""
    low, high = quality_interval(0.8, 10)
    assert (low, high) == (pytest.approx(0.50, abs=0.01), pytest.approx(0.95, abs=0.01))


@given(st.floats(0, 1), st.floats(0, 1e5))
def test_an_interval_holds_its_mean(quality, count):
    """And lies in 0 to 1."""
    low, high = quality_interval(quality, count)
    assert 0 <= low <= quality <= high <= 1


def test_without_an_outcome_all_is_possible():
    """Nearly 0 to 1."""
    low, high = quality_interval(0.5, 0.0)
    assert high - low > 0.95


def test_a_picture_has_an_interval_for_each_kind_and_dots_where_there_are_outcomes(tmp_path):
    """Three kinds, one of them unseen."""
    profile = Profile(
        candidate_id="aster",
        kinds_hash="k",
        quality_K=(0.25, 0.5, 1.0),
        num_observed_K=(10.0, 0.0, 3.5),
        output_tokens_K=(1.0, 1.0, 1.0),
        token_R=(0.0,),
        token_std_K=(0.1, 0.1, 0.1),
    )
    figure = profile_figure(profile, router_version="7")
    (axes,) = figure.axes
    assert axes.get_title() == "aster, under router version 7"
    assert len(axes.collections[0].get_segments()) == 3
    assert axes.lines[0].get_xdata().tolist() == [0, 2]
    figure.savefig(tmp_path / "profile.png")
    assert (tmp_path / "profile.png").stat().st_size > 5000
