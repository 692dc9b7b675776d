"""A request body is safe JSON, or the error says where it is not."""

import pytest

from deployments.protocol.body import MAX_DEPTH, parse_object
from router.errors import InvalidInputError, RequestTooLargeError


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b'{"model": "auto",\n "messages" [1]}', "line 2, column 13"),
        (b"\xff\xfe", "UTF-8 at byte 0"),
        (b"", "line 1, column 1"),
        (b'{"temperature": NaN}', "NaN"),
        (b'{"temperature": 1e999}', "too great"),
        (b'{"seed": 1' + b"0" * 5000 + b"}", "too long"),
        (b"[" * 100_000, "nested deeper"),
        (b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1), "nested deeper"),
        (b'{"user": "\\ud83d"}', "surrogate"),
        (b"[1]", "the body must be an object, got an array; send a JSON object"),
    ],
)
def test_what_is_wrong_is_told(body, told):
    """Every way in which a body is no safe JSON object has its own message."""
    with pytest.raises(InvalidInputError, match=told):
        parse_object(body)


def test_whole_surrogate_pairs_are_characters():
    """An escaped emoji is accepted and read as one character."""
    assert parse_object(b'{"user": "\\ud83d\\ude00"}') == {"user": "\U0001f600"}


def test_the_deepest_allowed_body_is_read():
    """Nesting of exactly the limit passes."""
    assert parse_object(b'{"a":' * MAX_DEPTH + b"1" + b"}" * MAX_DEPTH)


def test_a_body_over_the_cap_is_not_parsed():
    """Size is judged before content."""
    with pytest.raises(RequestTooLargeError, match="11 bytes, more than 10"):
        parse_object(b"not JSON at", max_bytes=10)
