"""Step 5, asked for: one request's decision, by the router or without it.

ask the router ──nobody is left──> ask again with whoever would keep the request waiting
      │
      └──fails, hangs, rests or is gone──> the default candidate, counted

A request whose candidates all died under it is decided once more, among those that start.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from deployments.dispatching.stickiness import Sessions, stay
from deployments.fail_open import RouterRestsError, check_decision
from deployments.pool.ejection import Ejection
from deployments.pool.losses import Losses
from deployments.question import Question
from router.errors import NoCandidateError
from router.route import choose_without_router

if TYPE_CHECKING:
    from collections.abc import Collection

    from ray.serve.handle import DeploymentHandle

    from deployments.exchange import Exchange
    from deployments.metrics import RequestMetrics
    from deployments.pool.pool import PoolWatcher
    from deployments.pool.router_watch import RouterWatch
    from deployments.settings import RouterSettings
    from deployments.waking.waker import Waker
    from router.records import Decision


LOSS_CHECK_S = 0.25
"""Seconds between looks whether Serve has noticed that a replica died."""

NOTICE_S = 30.0
"""Longest wait for that; Serve took 1 to 4 s, and takes longer while its controller is away."""


class Decider:
    """Decides for one ingress replica.

    Args:
        router: Handle of the router deployment.
        settings: Say how long it may take, and who answers without it.
        router_watch: Knows whether a router replica runs.
        watcher: Knows the pool.
        waker: Is told of requests that nobody can answer.
        metrics: Count what goes wrong.
    """

    def __init__(
        self,
        router: DeploymentHandle,
        settings: RouterSettings,
        *,
        router_watch: RouterWatch,
        watcher: PoolWatcher,
        waker: Waker,
        metrics: RequestMetrics,
    ) -> None:
        """Start without any session."""
        self._router = router
        self._settings = settings
        self._router_watch = router_watch
        self._watcher = watcher
        self._waker = waker
        self._metrics = metrics
        self._health = Ejection()
        self._sessions = Sessions()

    async def decide(self, exchange: Exchange) -> Decision:
        """Return the decision, if need be among those who would keep the request waiting.

        Raises:
            NoCandidateError: If nobody can answer.
            BadImageError: If a picture is damaged.
        """
        started_s = time.monotonic()
        try:
            return await self._among(exchange)
        except NoCandidateError as error:
            return await self._anyway(exchange, error)
        finally:
            exchange.timing.decide_s = time.monotonic() - started_s

    async def decide_again(self, exchange: Exchange, lost: Collection[str]) -> Decision | None:
        """Return a decision for a request that failed with all whom it asked.

        It waits, within its deadline, for a replica that is to start, as it would if it came now.

        Args:
            exchange: The request.
            lost: Candidates that it lost to a replica's end.

        Returns:
            None where that helps nobody: the candidates failed in another way, others are there
            whom it may not ask any more, or nobody starts in time.
        """
        tried = {attempt.candidate_id for attempt in exchange.log.attempts}
        standings = self._watcher.pool.standings
        if not lost or any(s.refusal is None and s.candidate.id not in tried for s in standings):
            return None
        losses, began_s = Losses.of(tried, lost), time.monotonic()
        while (left_s := exchange.left_s()) and time.monotonic() - began_s < NOTICE_S:
            pool = losses.look(self._watcher.startable(left_s))
            # In an outage many wait here: the router is asked once there is somebody to choose.
            if any(standing.refusal is None for standing in pool.standings):
                exchange.pool = pool
                with suppress(NoCandidateError):
                    return await self._among(exchange)
            if not losses.unseen:
                return None
            await asyncio.sleep(LOSS_CHECK_S)
        return None

    def note_answer(self, session: str | None, candidate_id: str) -> None:
        """Remember who answers a session."""
        self._sessions.note(session, candidate_id)

    async def _anyway(self, exchange: Exchange, error: NoCandidateError) -> Decision:
        """Return the decision where ejection, full replicas or a start alone leave nobody."""
        for passing, pool in self._watcher.last_resorts(exchange.left_s):
            if not passing.isdisjoint(error.refusals.values()):
                self._metrics.panicked(error)
                exchange.pool = pool()
                try:
                    return await self._among(exchange)
                except NoCandidateError as again:
                    error = again
        raise self._waker.note_refused(exchange, error)

    async def _among(self, exchange: Exchange) -> Decision:
        """Return the decision; without the router if the request is pinned or the router fails."""
        call, decision_id = exchange.call, f"dec_{secrets.token_hex(12)}"
        if not call.is_pinned:
            try:
                return await self._ask(exchange, decision_id)
            except (NoCandidateError, asyncio.CancelledError):
                raise
            except Exception as error:  # noqa: BLE001 - any failure of the router degrades alike
                self._metrics.router_failed(error)
        return choose_without_router(
            exchange.pool,
            call.shape,
            routing=exchange.routing,
            decision_id=decision_id,
            preferred=call.model if call.is_pinned else self._settings.default_candidate,
            pinned=call.is_pinned,
        )

    async def _ask(self, exchange: Exchange, decision_id: str) -> Decision:
        """Return the router's decision, checked, with the session's stickiness.

        Raises:
            Exception: Whatever the router raises.
        """
        if self._health.is_bad("router", time.monotonic()):
            raise RouterRestsError("the router hung and is not asked for a while")
        call, health = exchange.call, self._health.begin("router", time.monotonic())
        # The other half is for the default candidate.
        timeout_s = min(self._settings.decide_timeout_s, exchange.left_s() / 2)
        try:
            async with self._router_watch.while_there(timeout_s):
                decision: Decision = await self._router.decide.remote(
                    Question.of(call.question_text, exchange.decode_pictures()),
                    call.shape,
                    pool=exchange.pool,
                    routing=exchange.routing,
                    decision_id=decision_id,
                    seed=secrets.randbits(63),
                )
        except TimeoutError:
            self._health.fail(health, time.monotonic())
            raise
        except BaseException:
            self._health.drop(health)
            raise
        self._health.succeed(health, time.monotonic())
        check_decision(decision)
        if exchange.routing.max_quality_drop is not None:  # utilities are not in quality then
            return decision
        last = self._sessions.last(exchange.session)
        return stay(decision, last, max_loss=self._settings.stickiness_max_loss)
