"""A grader is found by its name, and each signs with name and version."""

import pytest

from router.errors import InvalidInputError
from training.graders import GRADERS, GraderOptions, MultipleChoice, NumericTolerance, make_grader

OPTIONS = GraderOptions(choices=("red", "blue"), tolerance=0.05, absolute_tolerance=1.0)


@pytest.mark.parametrize("name", GRADERS)
def test_every_grader_is_made_by_its_own_name(name):
    """Name and version go into labels."""
    grader = make_grader(name, OPTIONS)
    assert grader.name == name
    assert grader.version


def test_options_reach_the_grader_that_they_concern():
    """Choices for one, tolerances for the other."""
    assert make_grader("multiple_choice", OPTIONS) == MultipleChoice(choices=("red", "blue"))
    assert make_grader("numeric", OPTIONS) == NumericTolerance(relative=0.05, absolute=1.0)


@pytest.mark.parametrize("name", ["exact", "judge", ""])
def test_an_unknown_name_is_refused_with_those_known(name):
    """A judge is no grader: the caller brings it."""
    with pytest.raises(InvalidInputError, match="numeric, multiple_choice, anls, judge") as caught:
        make_grader(name)
    assert caught.value.field == "grader"
