"""A list's limit is a small whole number, or the caller learns what to send."""

import pytest

from deployments.protocol import parse_limit
from router.errors import InvalidInputError


def test_what_is_asked_for():
    """Fifty where nothing is."""
    assert [parse_limit(text) for text in (None, "1", "007", "200")] == [50, 1, 7, 200]


@pytest.mark.parametrize(
    "text", ["", "0", "201", "-1", "1.5", "many", "1e2", " 5", "9" * 5000, "²"]
)
def test_anything_else_is_refused(text):
    """By the field's name."""
    with pytest.raises(InvalidInputError, match="1 to 200") as caught:
        parse_limit(text)
    assert caught.value.field == "limit"
