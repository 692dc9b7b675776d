"""Step 6, dispatch: call the chosen candidate, or the next best if it fails early."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ray import serve

from deployments.candidates.block import APPLICATION_PREFIX
from deployments.protocol import read_events
from monitoring.outcome import Attempt
from router.errors import CandidateReplyError, InvalidInputError, PointsmanError
from router.records import Refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from ray.serve.handle import DeploymentHandle, DeploymentResponseGenerator

    from router.records import Pool

POOL_CHECK_S = 0.25
"""Seconds between looks whether a candidate that is being waited for still has replicas."""

GONE = {Refusal.COLD, Refusal.DRAINING, Refusal.NO_REPLICA}
"""States in which a request that has no answer yet will not get one soon."""


class CandidateFailedError(PointsmanError):
    """One candidate gave no answer; another may."""


class AllFailedError(PointsmanError):
    """Every candidate that was tried failed."""


@dataclass(slots=True)
class Answer:
    """A candidate's answer, from its first byte on."""

    candidate_id: str
    events: AsyncIterator[dict[str, Any]]
    """One completion, or the chunks of a stream."""

    started_s: float
    cancel: Callable[[], None]
    """Stops the candidate's work; safe to call at any time."""


@dataclass(slots=True)
class Log:
    """The attempts of one request, in order."""

    arrived_s: float
    attempts: list[Attempt] = field(default_factory=list)

    def add(self, candidate_id: str, started_s: float, error: str | None = None) -> None:
        """Note the end of one attempt; times on the monotonic clock."""
        self.attempts.append(
            Attempt(
                candidate_id=candidate_id,
                started_s=started_s - self.arrived_s,
                duration_s=time.monotonic() - started_s,
                error=error,
            )
        )


class Dispatcher:
    """Calls candidates through Serve's handles.

    Args:
        pool: Returns the latest pool.
    """

    def __init__(self, pool: Callable[[], Pool]) -> None:
        """Start without a handle; each is made when first needed."""
        self._pool = pool
        self._handles: dict[str, DeploymentHandle] = {}

    async def call(
        self,
        ranking: Sequence[str],
        body_for: Callable[[str], dict[str, Any]],
        *,
        deadline_s: float,
        log: Log,
        waits_for_start: bool = False,
    ) -> Answer:
        """Return the first answer, trying candidates in order.

        Args:
            ranking: Candidates to try.
            body_for: Makes a candidate's request body.
            deadline_s: On the monotonic clock, when the first byte must be there.
            log: Takes a note of each failed attempt.
            waits_for_start: Whether to wait for a candidate that has no replica, as a request
                pinned to one that is scaled to zero does.

        Raises:
            InvalidInputError: If a candidate says that the request itself is wrong.
            AllFailedError: If every candidate failed.
        """
        for candidate_id in ranking:
            started_s = time.monotonic()
            try:
                return await self._attempt(
                    candidate_id,
                    body_for(candidate_id),
                    deadline_s=deadline_s,
                    waits_for_start=waits_for_start,
                )
            except CandidateFailedError as error:
                log.add(candidate_id, started_s, str(error))
                if time.monotonic() >= deadline_s:
                    break
            except InvalidInputError as error:
                log.add(candidate_id, started_s, str(error))
                raise
        failures = "; ".join(f"{a.candidate_id}: {a.error}" for a in log.attempts)
        raise AllFailedError(f"no candidate answered ({failures})")

    async def _attempt(
        self, candidate_id: str, body: dict[str, Any], *, deadline_s: float, waits_for_start: bool
    ) -> Answer:
        started_s = time.monotonic()
        pieces: DeploymentResponseGenerator[str] | None = None
        try:
            handle = await self._handle(candidate_id)
            pieces = handle.complete.remote(body)
            events = read_events(pieces) if body["stream"] else _whole(pieces)
            first = await self._first(
                anext(events),
                candidate_id,
                deadline_s=deadline_s,
                waits_for_start=waits_for_start,
            )
            _raise_error(first)
        except BaseException as error:
            # Whatever ended the attempt, the candidate must not go on working for nobody.
            if pieces is not None:
                pieces.cancel()
            if isinstance(error, InvalidInputError) or not isinstance(error, Exception):
                raise
            self._handles.pop(candidate_id, None)
            raise _failure(error) from error
        return Answer(candidate_id, _chain(first, events), started_s, pieces.cancel)

    async def _handle(self, candidate_id: str) -> DeploymentHandle:
        if candidate_id not in self._handles:
            handle = await asyncio.to_thread(
                serve.get_app_handle, f"{APPLICATION_PREFIX}{candidate_id}"
            )
            self._handles[candidate_id] = handle.options(stream=True)
        return self._handles[candidate_id]

    async def _first(
        self,
        first: Awaitable[dict[str, Any]],
        candidate_id: str,
        *,
        deadline_s: float,
        waits_for_start: bool,
    ) -> dict[str, Any]:
        """Return the first event, unless the candidate leaves the pool or the time is up."""
        task = asyncio.ensure_future(first)
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=POOL_CHECK_S)
                if task.done():
                    break
                if time.monotonic() >= deadline_s:
                    raise CandidateFailedError("no first byte before the deadline")
                standing = self._pool().standing(candidate_id)
                if standing is None or (standing.refusal in GONE and not waits_for_start):
                    raise CandidateFailedError("its replicas went away")
            return task.result()
        finally:
            task.cancel()


def _failure(error: Exception) -> CandidateFailedError:
    """Return what to note of a failed attempt."""
    if isinstance(error, CandidateFailedError):
        return error
    if isinstance(error, StopAsyncIteration):
        return CandidateFailedError("the candidate sent nothing")
    return CandidateFailedError(f"{type(error).__name__}: {error}"[:300])


async def _whole(pieces: AsyncIterator[str]) -> AsyncIterator[dict[str, Any]]:
    """Yield the one JSON object of an answer that is not streamed."""
    text = "".join([piece async for piece in pieces])
    try:
        value = json.loads(text)
    except ValueError:
        raise CandidateReplyError("the reply is not JSON") from None
    if not isinstance(value, dict):
        raise CandidateReplyError("the reply is not a JSON object")
    yield value


def _raise_error(event: dict[str, Any]) -> None:
    """Raise what an OpenAI error object says.

    Raises:
        InvalidInputError: If the candidate found fault with the request.
        CandidateFailedError: If the candidate itself failed.
    """
    error = event.get("error")
    if error is None:
        return
    message = str(error.get("message", "")) if isinstance(error, dict) else str(error)
    code = error.get("code") if isinstance(error, dict) else None
    if isinstance(code, int) and 400 <= code < 500:  # noqa: PLR2004 - HTTP's client errors
        raise InvalidInputError(message, str(error.get("param") or ""))
    raise CandidateFailedError(message[:300])


async def _chain(
    first: dict[str, Any], rest: AsyncIterator[dict[str, Any]]
) -> AsyncIterator[dict[str, Any]]:
    yield first
    async for event in rest:
        yield event
