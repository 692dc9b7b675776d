"""What orjson cannot say is said all the same."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.json_text import read_json, write_json

SMALL = st.integers(-(2**63), 2**63 - 1)
FINITE = st.floats(allow_nan=False, allow_infinity=False)


def values(integers):
    """Return values that JSON can say."""
    return st.recursive(
        st.none() | st.booleans() | integers | FINITE | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=20,
    )


@given(values(st.integers()))
def test_what_is_written_reads_the_same(value):
    """By Python's own reader as well: integers of any size, any character."""
    assert json.loads(write_json(value)) == value


@given(values(SMALL))
def test_what_python_writes_is_read(value):
    """Whatever the writer; integers beyond 64 bits come back as floats."""
    assert read_json(json.dumps(value)) == value


def test_numbers_that_json_does_not_know_are_read():
    """Some engines send log probabilities of minus infinity."""
    assert read_json(b'{"logprob": -Infinity}') == {"logprob": -math.inf}


@pytest.mark.parametrize("text", [b"{no", "", b"\xff"])
def test_what_is_no_json_is_refused(text):
    """With a `ValueError`, whichever reader finds it."""
    with pytest.raises((json.JSONDecodeError, UnicodeDecodeError)):
        read_json(text)


def test_what_json_does_not_know_is_written_as_null():
    """No reader could make anything of it."""
    assert write_json([math.inf, math.nan]) == b"[null,null]"


def test_halves_of_pairs_are_written():
    """As escapes, which any reader takes."""
    assert json.loads(write_json("\ud800")) == "\ud800"
