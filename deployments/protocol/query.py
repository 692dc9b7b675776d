"""Step 1, lists: what a URL's query may ask of one."""

from __future__ import annotations

from router.errors import InvalidInputError

DEFAULT_LIMIT = 50
MAX_LIMIT = 200
"""A receipt over 60 candidates takes 5 kB."""


def parse_limit(text: str | None) -> int:
    """Return how many items are asked for; 50 if nothing is said.

    Raises:
        InvalidInputError: If it is no whole number from 1 to 200.
    """
    if text is None:
        return DEFAULT_LIMIT
    # `isdecimal` takes the digits of every script, and `int` reads them.
    if len(text) > len(str(MAX_LIMIT)) or not text.isdecimal() or not 1 <= int(text) <= MAX_LIMIT:
        raise InvalidInputError(f"send a whole number from 1 to {MAX_LIMIT}", "limit")
    return int(text)
