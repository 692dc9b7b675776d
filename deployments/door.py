"""Step 1, at the door: from a request's headers to its place, before its body is read."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from deployments.admission import Admission, Priority, key_of, read_priority

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deployments.admission import Ticket

PRIORITY_HEADER = "x-pointsman-priority"
SESSION_HEADER = "x-pointsman-session"
MAX_SESSION_CHARS = 256

SMALL_BODY_BYTES = 64 * 1024
"""A body up to this size has no pictures to speak of: reading it for its priority is quick."""


class Visit:
    """One request's place, from its arrival to the last byte of its answer."""

    def __init__(self, admission: Admission, ticket: Ticket, headers: Mapping[str, str]) -> None:
        """Remember what the headers say."""
        self._admission = admission
        self._ticket = ticket
        self._stated = read_priority(headers.get(PRIORITY_HEADER), PRIORITY_HEADER)
        self._session = headers.get(SESSION_HEADER)

    def check(self, priority: str | None) -> None:
        """Check the place anew, by the priority that the body states.

        Raises:
            OverloadedError: If there is no room for it.
        """
        if self._stated is None:
            self._admission.check(Priority(priority or Priority.NORMAL), num_held=1)

    def session(self, in_body: str | None) -> str | None:
        """Return the session's name, which is apart from those of other keys."""
        name = self._session or in_body
        return f"{self._ticket.key}:{name[:MAX_SESSION_CHARS]}" if name else None

    def leave(self) -> None:
        """Give the place back; safe to call again."""
        self._admission.leave(self._ticket, time.monotonic())


class Door:
    """Lets requests in by their headers.

    Args:
        admission: Counts places.
        api_key_header: Tells keys apart.
    """

    def __init__(self, admission: Admission, *, api_key_header: str) -> None:
        """Start with an empty house."""
        self._admission = admission
        self._api_key_header = api_key_header

    @property
    def num_in_flight(self) -> int:
        """How many requests are inside."""
        return self._admission.num_in_flight

    def enter(self, headers: Mapping[str, str]) -> Visit:
        """Give a request its place.

        A request that states no priority in its headers may state one in its body. While there
        is room for high priorities only, such a body is read if it is small; else the request
        counts as normal.

        Raises:
            InvalidInputError: If the priority is none.
            TooManyRequestsError: If its key has too many requests inside.
            OverloadedError: If there is no room for its priority.
        """
        priority = read_priority(headers.get(PRIORITY_HEADER), PRIORITY_HEADER)
        if priority is None:
            length = headers.get("content-length", "")
            is_small = length.isdecimal() and int(length) <= SMALL_BODY_BYTES
            priority = Priority.HIGH if is_small else Priority.NORMAL
        key = key_of(headers.get(self._api_key_header))
        ticket = self._admission.enter(key, priority, time.monotonic())
        return Visit(self._admission, ticket, headers)
