"""Step 6, dispatch: call the chosen candidate, or the next best if it fails early.

Whoever sends the first byte answers. Until then a failure moves the request on to the next
candidate, within the retry budget, and half of the time without a byte asks the next one beside
the first. After it there is no way back.
"""

from __future__ import annotations

import asyncio
import time
from math import inf
from typing import TYPE_CHECKING, Any

from ray import serve

from deployments.attempts import (
    NEUTRAL,
    AllFailedError,
    Answer,
    CandidateBusyError,
    CandidateDeadError,
    CandidateFailedError,
    CandidateGoneError,
    CandidateLateError,
    Log,
)
from deployments.candidates.block import APPLICATION_PREFIX
from deployments.dispatching.failures import blame, failure_of, raise_error
from deployments.dispatching.race import HUNG, SLOW, Doubt, Race, RaceEvent, RaceRules
from deployments.dispatching.retry_budget import RetryBudget, RetryRules
from deployments.json_text import read_json
from deployments.pool.ejection import Ejection
from deployments.pool.load import LoadMeter
from deployments.protocol import read_events
from monitoring.outcome import Status
from router.errors import CandidateReplyError, InvalidInputError
from router.records import Refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from ray.serve.handle import DeploymentHandle, DeploymentResponseGenerator

    from deployments.pool.ejection import Call
    from router.records import Pool

__all__ = ["AllFailedError", "Answer", "CandidateFailedError", "Dispatcher", "Log", "RaceEvent"]

POOL_CHECK_S = 0.25
"""Seconds between looks whether a candidate that is being waited for still has replicas."""

GONE = {Refusal.COLD, Refusal.DRAINING, Refusal.NO_REPLICA}
"""States in which a request that has no answer yet will not get one soon."""


class Dispatcher:
    """Calls candidates through Serve's handles.

    Args:
        pool: Returns the latest pool.
        on_busy: Told of a candidate that takes nothing more for so many seconds.
        ejection: Learns how each call ended; one of its own when None.
        budget: Allows retries; one by the default rules when None.
        hedge_after_s: When a candidate that is slow to begin is overtaken by the next; half of
            the time that the request has when None.
        fair_wait_s: Silence for less than this says nothing of a candidate's health.
        load: Counts the calls under way; one of its own when None.
        on_event: Told in a word of what happened, for metrics.
    """

    def __init__(  # noqa: PLR0913 - each is a part of its own
        self,
        pool: Callable[[], Pool],
        on_busy: Callable[[str, float], None] | None = None,
        *,
        ejection: Ejection | None = None,
        budget: RetryBudget | None = None,
        hedge_after_s: float | None = None,
        fair_wait_s: float = 0.0,
        load: LoadMeter | None = None,
        on_event: Callable[[RaceEvent, str], None] = lambda _event, _candidate: None,
    ) -> None:
        """Start without a handle; each is made when first needed."""
        self._pool = pool
        self._on_busy = on_busy
        self._ejection = ejection or Ejection()
        self._budget = budget or RetryBudget(RetryRules(), time.monotonic())
        self._fair_wait_s = fair_wait_s
        self._load = load or LoadMeter()
        self._on_event = on_event
        self._race_rules = RaceRules(self._budget.take, hedge_after_s, on_event)
        self._handles: dict[str, DeploymentHandle] = {}
        self._answered_s: dict[str, float] = {}

    async def call(  # noqa: PLR0913 - all of one request
        self,
        ranking: Sequence[str],
        body_for: Callable[[str], dict[str, Any]],
        *,
        deadline_s: float,
        log: Log,
        waits_for_start: bool = False,
        max_attempts: int | None = None,
        check: Callable[[], object] | None = None,
    ) -> Answer:
        """Return the first answer, trying candidates in order; those that fail come last.

        Args:
            ranking: Candidates to try.
            body_for: Makes a candidate's request body.
            deadline_s: On the monotonic clock, when the first byte must be there.
            log: Takes a note of each failed attempt.
            waits_for_start: Whether to wait for a candidate that has no replica, as a request
                pinned to one that is scaled to zero does.
            max_attempts: How many of them are tried; all if None.
            check: Run in a thread when a candidate failed; raises if the request is at fault.

        Raises:
            InvalidInputError: If a candidate says that the request itself is wrong.
            AllFailedError: If every candidate failed, or the retry budget allows no other.
        """
        order = self._order(ranking)  # by what is left before this request adds its share
        self._budget.note_request(time.monotonic())

        def attempt(candidate_id: str, *, has_other: bool) -> Awaitable[Answer]:
            return self._judged(
                candidate_id,
                body_for(candidate_id),
                deadline_s=deadline_s,
                waits_for_start=waits_for_start,
                has_other=has_other,
                check=check,
            )

        race = Race(
            order,
            attempt,
            rules=self._race_rules,
            deadline_s=deadline_s,
            log=log,
            doubt_of=self._doubt_of,
            max_attempts=max_attempts,
        )
        return await race.run()

    def _order(self, ranking: Sequence[str]) -> Sequence[str]:
        """Return the ranking; while retries are scarce, those whose last call failed come last.

        Five candidates that go bad at once would else use up fifteen before they are ejected.
        """
        is_scarce = self._budget.is_scarce(time.monotonic())
        return sorted(ranking, key=self._doubt_of) if is_scarce else ranking

    async def _judged(
        self,
        candidate_id: str,
        body: dict[str, Any],
        *,
        deadline_s: float,
        waits_for_start: bool,
        has_other: bool,
        check: Callable[[], object] | None,
    ) -> Answer:
        """Return a candidate's answer; what is learned of its health goes to the ejection."""
        started_s = time.monotonic()
        call = self._ejection.begin(candidate_id, started_s)
        self._load.begin(candidate_id)
        try:
            answer = await self._attempt(
                candidate_id,
                body,
                deadline_s=deadline_s,
                waits_for_start=waits_for_start,
                has_other=has_other,
                check=check,
            )
        except BaseException as error:
            self._load.end(candidate_id)
            self._judge(call, error, lasted_s=time.monotonic() - started_s)
            raise
        if body.get("stream") and not waits_for_start:
            now_s = time.monotonic()
            self._load.first_token(candidate_id, now_s - started_s, now_s)
        self._ejection.answer(call)
        self._answered_s[candidate_id] = time.monotonic()
        answer.end = lambda status: self._close(call, status)
        return answer

    def _doubt_of(self, candidate_id: str) -> Doubt:
        if self._is_masked(candidate_id):
            return Doubt.MASKED
        return Doubt.SUSPECT if self._ejection.is_suspect(candidate_id) else Doubt.NONE

    def _is_masked(self, candidate_id: str) -> bool:
        """Return whether a candidate cannot take a query by now, or fails.

        One that fails counts too where so many do that the pool masks it not: those that are
        left come before it.
        """
        standing = self._pool().standing(candidate_id)
        if standing is None or standing.refusal is not None:
            return True
        return self._ejection.is_bad(candidate_id, time.monotonic())

    def _judge(self, call: Call, error: BaseException, *, lasted_s: float) -> None:
        """Tell the ejection what an attempt's end says of its candidate."""
        now_s = time.monotonic()
        if isinstance(error, CandidateBusyError) and self._on_busy is not None:
            self._on_busy(call.candidate_id, error.retry_after_s)
        if isinstance(error, InvalidInputError):
            self._ejection.succeed(call, now_s)  # it found a fault with the request
        elif isinstance(error, CandidateLateError) or error.args == (HUNG,):
            # Else a user could have a candidate ejected by asking for an answer in no time.
            if lasted_s >= self._fair_wait_s:
                self._fail(call)
            else:
                self._ejection.drop(call)
        elif error.args == (SLOW,) and self._was_silent(call.candidate_id, now_s - lasted_s):
            self._fail(call)
        elif isinstance(error, CandidateFailedError) and not isinstance(error, NEUTRAL):
            standing = self._pool().standing(call.candidate_id)
            is_alone = standing is None or standing.num_running <= 1
            self._fail(call, is_fatal=is_alone and isinstance(error, CandidateDeadError))
        else:
            self._ejection.drop(call)

    def _was_silent(self, candidate_id: str, since_s: float) -> bool:
        """Return whether a candidate sent nobody a first byte since then."""
        return self._answered_s.get(candidate_id, -inf) < since_s

    def _fail(self, call: Call, *, is_fatal: bool = False) -> None:
        if self._ejection.fail(call, time.monotonic(), is_fatal=is_fatal):
            self._on_event(RaceEvent.EJECTED, call.candidate_id)

    def _close(self, call: Call, status: Status) -> None:
        """Close the call of an answer that began."""
        self._load.end(call.candidate_id)
        if status is Status.OK:
            self._ejection.succeed(call, time.monotonic())
        elif status is Status.TRUNCATED:
            self._fail(call)
        else:
            self._ejection.drop(call)

    async def _attempt(
        self,
        candidate_id: str,
        body: dict[str, Any],
        *,
        deadline_s: float,
        waits_for_start: bool,
        has_other: bool = False,
        check: Callable[[], object] | None = None,
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
                has_other=has_other,
            )
            raise_error(first)
        except BaseException as error:
            # Whatever ended the attempt, the candidate must not go on working for nobody.
            if pieces is not None:
                pieces.cancel()
            if isinstance(error, InvalidInputError) or not isinstance(error, Exception):
                raise
            self._handles.pop(candidate_id, None)
            raise await blame(failure_of(error), check) from error
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
        has_other: bool = False,
    ) -> dict[str, Any]:
        """Return the first event, unless the candidate leaves the pool or the time is up."""
        task = asyncio.ensure_future(first)
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=POOL_CHECK_S)
                if task.done():
                    break
                if time.monotonic() >= deadline_s:
                    raise CandidateLateError("no first byte before the deadline")
                standing = self._pool().standing(candidate_id)
                gone = GONE | {Refusal.STARTING} if has_other else GONE
                is_gone = standing is None or (
                    # Replicas that drain still finish what they have.
                    standing.refusal in gone and not standing.num_running and not waits_for_start
                )
                if is_gone:
                    raise CandidateGoneError("its replicas went away")
            return task.result()
        finally:
            task.cancel()


async def _whole(pieces: AsyncIterator[str]) -> AsyncIterator[dict[str, Any]]:
    """Yield the one JSON object of an answer that is not streamed."""
    text = "".join([piece async for piece in pieces])
    try:
        value = read_json(text)
    except (ValueError, RecursionError):
        raise CandidateReplyError("the reply is not JSON") from None
    if not isinstance(value, dict):
        raise CandidateReplyError("the reply is not a JSON object")
    yield value


async def _chain(
    first: dict[str, Any], rest: AsyncIterator[dict[str, Any]]
) -> AsyncIterator[dict[str, Any]]:
    """Yield the events of an answer that has begun.

    Raises:
        CandidateReplyError: If one of them tells of an error: there is no way back to another
            candidate any more.
    """
    yield first
    async for event in rest:
        try:
            raise_error(event)
        except (CandidateFailedError, InvalidInputError) as error:
            raise CandidateReplyError(str(error)) from None
        yield event
