"""Step 6, failures: what an attempt's end says, and of whom."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ray.exceptions import RayActorError

from deployments.attempts import (
    NEUTRAL,
    CandidateBusyError,
    CandidateDeadError,
    CandidateFailedError,
    CandidateLostError,
)
from router.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable

LOST_SIGNS = ("EngineDeadError", "EngineCore encountered an issue")
"""Words in a failure that tell of a dead engine of vLLM's."""

DEAD_SIGNS = ("endpoint_unreachable",)
"""Such words of an endpoint's candidate, which no start of Serve's brings back."""


def failure_of(error: Exception) -> CandidateFailedError:
    """Return what to note of a failed attempt."""
    told = f"{type(error).__name__}: {error}"[:300]
    if isinstance(error, RayActorError) or any(sign in str(error) for sign in LOST_SIGNS):
        return CandidateLostError(told)
    if any(sign in str(error) for sign in DEAD_SIGNS):
        return CandidateDeadError(told)
    if isinstance(error, CandidateFailedError):
        return error
    if isinstance(error, StopAsyncIteration):
        return CandidateFailedError("the candidate sent nothing")
    return CandidateFailedError(told)


async def blame(
    failure: CandidateFailedError, check: Callable[[], object] | None
) -> CandidateFailedError | InvalidInputError:
    """Return the fault of the request if it has one, else the candidate's failure."""
    if check is not None and not isinstance(failure, NEUTRAL):
        try:
            await asyncio.to_thread(check)
        except InvalidInputError as fault:
            return fault
    return failure


def raise_error(event: dict[str, Any]) -> None:
    """Raise what an OpenAI error object says.

    Raises:
        InvalidInputError: If the candidate found fault with the request.
        CandidateBusyError: If the candidate takes nothing more for a while.
        CandidateFailedError: If the candidate itself failed.
    """
    error = event.get("error")
    if error is None:
        return
    message = str(error.get("message", "")) if isinstance(error, dict) else str(error)
    code = error.get("code") if isinstance(error, dict) else None
    if isinstance(error, dict) and isinstance(error.get("type"), str):
        message = f"{error['type']}: {message}" if code != 400 else message  # noqa: PLR2004 - HTTP's bad request
    if isinstance(error, dict) and code == 429:  # noqa: PLR2004 - too many requests
        raise CandidateBusyError(message[:300], float(error.get("retry_after_s") or 1.0))
    if isinstance(code, int) and 400 <= code < 500:  # noqa: PLR2004 - HTTP's client errors
        raise InvalidInputError(message, str(error.get("param") or ""))
    raise CandidateFailedError(message[:300])
