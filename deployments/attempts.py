"""Step 6, attempts: what comes of calling a candidate."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from monitoring.outcome import Attempt, Status
from router.errors import PointsmanError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


class CandidateFailedError(PointsmanError):
    """One candidate gave no answer; another may."""


class CandidateGoneError(CandidateFailedError):
    """One candidate left while a request waited; the pool tells it to everybody."""


class CandidateLateError(CandidateFailedError):
    """One candidate sent nothing before the request's deadline."""


class CandidateDeadError(CandidateFailedError):
    """One candidate's engine is dead: the next call would fail too."""


class CandidateLostError(CandidateDeadError):
    """One candidate's engine or replica died under the request; Serve starts another."""


class CandidateBusyError(CandidateFailedError):
    """One candidate takes nothing more for a while.

    Args:
        message: What it said.
        retry_after_s: For how long, in seconds.
    """

    def __init__(self, message: str, retry_after_s: float) -> None:
        """Keep both arguments in ``args`` so that the error survives pickling."""
        super().__init__(message, retry_after_s)
        self.message = message
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        """Return the message alone."""
        return self.message


class AllFailedError(PointsmanError):
    """Every candidate that was tried failed; asking again may succeed.

    Args:
        message: What each of them said.
        lost: Those of them whose replica died or went away.
    """

    def __init__(self, message: str, lost: frozenset[str] = frozenset()) -> None:
        """Keep both arguments in ``args`` so that the error survives pickling."""
        super().__init__(message, lost)
        self.message = message
        self.lost = lost

    def __str__(self) -> str:
        """Return the message alone."""
        return self.message


LOSSES = (CandidateGoneError, CandidateLostError)
"""Failures after which a replica of the same candidate may soon answer."""

NEUTRAL = (CandidateBusyError, CandidateGoneError)
"""Failures that say nothing of a candidate's health."""


@dataclass(slots=True)
class Answer:
    """A candidate's answer, from its first byte on."""

    candidate_id: str
    events: AsyncIterator[dict[str, Any]]
    """One completion, or the chunks of a stream."""

    started_s: float
    cancel: Callable[[], None]
    """Stops the candidate's work; safe to call at any time."""

    end: Callable[[Status], None] = lambda _: None
    """Tells dispatch how the answer ended; call it once, when it is known."""

    def finish(self, status: Status) -> None:
        """Tell how the answer ended, and stop what is left of it."""
        if status is not Status.OK:  # else all of it was read
            self.cancel()
        self.end(status)


@dataclass(slots=True)
class Log:
    """The attempts of one request, in order."""

    arrived_s: float
    attempts: list[Attempt] = field(default_factory=list)

    def add(self, candidate_id: str, started_s: float, error: str | None = None) -> None:
        """Note the end of one attempt; times on the monotonic clock."""
        if error is not None:  # an endpoint's words may hold halves of surrogate pairs
            error = error.encode("utf-8", "replace").decode()
        self.attempts.append(
            Attempt(
                candidate_id=candidate_id,
                started_s=started_s - self.arrived_s,
                duration_s=time.monotonic() - started_s,
                error=error,
            )
        )
