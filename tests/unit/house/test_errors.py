"""Errors cross process borders, so each must survive pickling."""

from __future__ import annotations

import inspect
import pickle

import pytest

from router import errors

SAMPLES = {"str": "images.0", "float": 2.5, "int": 3, "Mapping[str, str]": {"reader": "draining"}}
CLASSES = [
    member
    for member in vars(errors).values()
    if isinstance(member, type) and issubclass(member, errors.PointsmanError)
]


def _make(kind):
    if kind.__init__ is Exception.__init__:
        return kind("what went wrong")
    parameters = list(inspect.signature(kind).parameters.values())
    return kind(*(SAMPLES[parameter.annotation] for parameter in parameters))


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_error_survives_pickling(kind):
    """An error comes out of a pickle with its kind, its message and all its attributes."""
    error = _make(kind)
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - made here
    assert type(copy) is kind
    assert (str(copy), copy.args, vars(copy)) == (str(error), error.args, vars(error))


def test_tree_in_docstring_is_complete():
    """The tree at the head of the module names every error."""
    assert [kind.__name__ for kind in CLASSES if kind.__name__ not in errors.__doc__] == []
