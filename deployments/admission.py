"""Step 1, door: how many requests one ingress replica works on, and whom it turns away. Pure.

A request that would wait beyond its use is refused at once, which costs a thousandth of an answer
and lets the caller go elsewhere. Low priorities are refused first, so that the rest of the room is
there for the high ones.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from math import ceil
from types import MappingProxyType
from typing import TYPE_CHECKING

from router.errors import InvalidInputError, PointsmanError

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_RETRY_AFTER_S = 30.0
SMOOTHING = 0.05
"""Weight of the latest request in the mean stay: about the last twenty count."""


class Priority(StrEnum):
    """How late a request is turned away."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


ROOM: Mapping[Priority, float] = MappingProxyType(
    {Priority.HIGH: 1.0, Priority.NORMAL: 0.9, Priority.LOW: 0.7}
)
"""Share of the places up to which a priority is let in."""


class TurnedAwayError(PointsmanError):
    """There is no place for a request now.

    Args:
        message: What to do.
        retry_after_s: When there may be one, in seconds.
    """

    def __init__(self, message: str, retry_after_s: float) -> None:
        """Keep both arguments in ``args`` so that the error survives pickling."""
        super().__init__(message, retry_after_s)
        self.message = message
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        """Return the message alone."""
        return self.message


class OverloadedError(TurnedAwayError):
    """All requests together are too many."""


class TooManyRequestsError(TurnedAwayError):
    """One key's requests are too many."""


@dataclass(slots=True, eq=False)
class Ticket:
    """A place that a request holds; give it back with `Admission.leave`."""

    key: str
    entered_s: float
    has_left: bool = field(default=False, init=False)


class Admission:
    """The places of one ingress replica.

    Args:
        max_in_flight: Places for all.
        max_per_key: Places for the requests of one key; no bound if None.
    """

    def __init__(self, max_in_flight: int, max_per_key: int | None = None) -> None:
        """Start empty."""
        self._max_in_flight = max_in_flight
        self._max_per_key = max_per_key
        self._by_key: Counter[str] = Counter()
        self._stay_s = 1.0
        self.num_in_flight = 0

    def enter(self, key: str, priority: Priority, now_s: float) -> Ticket:
        """Give a request a place.

        Args:
            key: Whose request it is; see `key_of`.
            priority: How late it is to be turned away.
            now_s: On a monotonic clock.

        Raises:
            TooManyRequestsError: If the key has all the places it may have.
            OverloadedError: If the room for the priority is taken.
        """
        if self._max_per_key is not None and self._by_key[key] >= self._max_per_key:
            raise TooManyRequestsError(
                f"this key has {self._max_per_key} requests under way, which is its limit; wait "
                "until one ends",
                self._stay_s / self._max_per_key,
            )
        self.check(priority)
        self.num_in_flight += 1
        self._by_key[key] += 1
        return Ticket(key, now_s)

    def check(self, priority: Priority, *, num_held: int = 0) -> None:
        """Refuse a priority whose room is taken.

        Args:
            priority: Of the request.
            num_held: Places the request holds already: 1 if its priority is known only now.

        Raises:
            OverloadedError: If so.
        """
        room = max(1, int(self._max_in_flight * ROOM[priority] + 1e-9))
        num_others = self.num_in_flight - num_held
        if num_others >= room:
            # In the mean stay each of those in flight leaves once.
            wait_s = self._stay_s * (num_others - room + 1) / num_others
            raise OverloadedError(
                f"the server is full for requests of {priority.value} priority; try again later",
                min(wait_s, MAX_RETRY_AFTER_S),
            )

    def leave(self, ticket: Ticket, now_s: float) -> None:
        """Take a place back; once only, however often it is called."""
        if ticket.has_left:
            return
        ticket.has_left = True
        self.num_in_flight -= 1
        self._by_key[ticket.key] -= 1
        if not self._by_key[ticket.key]:
            del self._by_key[ticket.key]
        self._stay_s += SMOOTHING * (max(0.0, now_s - ticket.entered_s) - self._stay_s)

    def num_keys(self) -> int:
        """Return how many keys have requests under way."""
        return len(self._by_key)


def key_of(secret: str | None) -> str:
    """Return a name for whoever sends a secret, which does not reveal it; one for all who do not.

    Args:
        secret: The header that holds the API key.
    """
    if not secret:
        return "anonymous"
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def read_priority(value: str | None, name: str) -> Priority | None:
    """Return the priority that a header states; None where it states none.

    Raises:
        InvalidInputError: If it is another word.
    """
    if value is None:
        return None
    try:
        return Priority(value.strip().lower())
    except ValueError:
        words = ", ".join(Priority)
        raise InvalidInputError(f"{name} is {value[:40]!r}; send one of {words}", name) from None


def retry_after(error: TurnedAwayError) -> str:
    """Return the header that tells when to ask again, in whole seconds."""
    return str(max(1, ceil(error.retry_after_s)))
