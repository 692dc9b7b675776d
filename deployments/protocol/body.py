"""Step 1, request: bytes to one JSON object that is safe to walk, hold and send on."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn, TypeVar

from router.errors import InvalidInputError, RequestTooLargeError

MAX_BODY_BYTES = 32 * 1024 * 1024
"""Room for a handful of images as data URLs."""

MAX_DEPTH = 100
"""Deeper nesting would exhaust Python's stack wherever the value is walked by recursion."""

_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_KIND_NAMES: dict[type, str] = {
    str: "a string",
    bool: "true or false",
    int: "an integer",
    float: "a number",
    list: "an array",
    dict: "an object",
}

T = TypeVar("T")


def parse_object(body: bytes, *, max_bytes: int = MAX_BODY_BYTES) -> dict[str, Any]:
    """Return the JSON object that a request body holds.

    Args:
        body: The body as received.
        max_bytes: Most bytes accepted.

    Returns:
        A value at most `MAX_DEPTH` deep, without NaN, infinity or half a surrogate pair, so that
        it can be written as UTF-8 JSON again.

    Raises:
        RequestTooLargeError: If the body is over the cap.
        InvalidInputError: If it is not such an object; names line and column where it can.
    """
    if len(body) > max_bytes:
        raise RequestTooLargeError(
            f"the body has {len(body)} bytes, more than {max_bytes}; send fewer or smaller images"
        )
    text = _text(body)
    value = _value(text)
    if _is_deeper_than(value, MAX_DEPTH):
        raise InvalidInputError(f"the body is nested deeper than {MAX_DEPTH} levels; flatten it")
    if _SURROGATE_ESCAPE.search(text):
        _check_encodable(value)
    return expect(value, dict, "", "send a JSON object")


def expect(value: object, kind: type[T], field: str, remedy: str) -> T:
    """Return the value if it is of the JSON kind asked for.

    Args:
        value: Any JSON value.
        kind: One of str, bool, int, list, dict; true and false are no integers.
        field: Path of the value, empty for the whole body.
        remedy: What to send instead.

    Raises:
        InvalidInputError: If it is of another kind.
    """
    if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    raise InvalidInputError(
        f"{field or 'the body'} must be {_KIND_NAMES[kind]}, got {describe(value)}; {remedy}",
        field,
    )


def describe(value: object) -> str:
    """Return the JSON kind of a value, for messages; never the value, which may be private."""
    return "null" if value is None else _KIND_NAMES[type(value)]


def _text(body: bytes) -> str:
    """Return the body as text."""
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInputError(
            f"the body is not UTF-8 at byte {error.start}; encode it as UTF-8"
        ) from None


def _value(text: str) -> object:
    """Return the JSON value that the text writes."""
    try:
        value: object = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except json.JSONDecodeError as error:
        raise InvalidInputError(
            f"the body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}; "
            "mend it there"
        ) from None
    except RecursionError:
        raise InvalidInputError(
            f"the body is nested deeper than {MAX_DEPTH} levels; flatten it"
        ) from None
    except InvalidInputError:
        raise
    except ValueError:  # Python refuses integers of thousands of digits
        raise InvalidInputError("the body holds a number too long to read; shorten it") from None
    return value


def _refuse_constant(name: str) -> NoReturn:
    """Refuse what Python reads but JSON does not know."""
    raise InvalidInputError(f"the body holds {name}, which JSON does not know; send a number")


def _finite(digits: str) -> float:
    """Return a number that a float can hold; Python would read 1e999 as infinity."""
    number = float(digits)
    if math.isinf(number):
        raise InvalidInputError(f"the body holds {digits[:20]}, too great a number; lower it")
    return number


def _is_deeper_than(value: object, limit: int) -> bool:
    """Tell whether arrays and objects nest more than so many levels; walks without recursion."""
    level = [value]
    for _ in range(limit + 1):
        level = [child for node in level for child in _children(node)]
        if not level:
            return False
    return True


def _children(node: object) -> list[Any]:
    """Return the values one level down."""
    if isinstance(node, dict):
        return list(node.values())
    return node if isinstance(node, list) else []


def _check_encodable(value: object) -> None:
    r"""Refuse half a surrogate pair (``\ud800``), which no later step could write as UTF-8."""
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidInputError(
            "the body escapes half of a surrogate pair; escape both halves or send the character"
        ) from None
