"""Step 6, nudges: have Serve's autoscaler give replicas to whom the decisions wanted in vain."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from ray import serve

from deployments.candidates.block import APPLICATION_PREFIX
from deployments.metrics import CapacityMetrics
from deployments.waking.wake import Wake, WakeRules
from router.errors import NoCandidateError
from router.records import Refusal

if TYPE_CHECKING:
    from deployments.exchange import Exchange
    from deployments.pool.pool import PoolWatcher
    from deployments.settings import RouterSettings
    from deployments.waking.wake import Nudge
    from router.records import Decision

logger = logging.getLogger("pointsman.pool")

START_PATIENCE_S = 900.0
"""Longest that a call waits for a first replica; a large model takes minutes to load."""

PERIOD_S = 1.0


class Waker:
    """Counts what missing replicas cost one ingress replica, and nudges in the background.

    Args:
        watcher: Knows the pool.
        settings: Say when.
    """

    def __init__(self, watcher: PoolWatcher, settings: RouterSettings) -> None:
        """Call nobody yet."""
        self._watcher = watcher
        self._wake = Wake(
            WakeRules(regret=settings.wake_regret, pause_s=settings.wake_pause_s),
            num_ingresses=settings.num_ingress_replicas,
        )
        self._metrics = CapacityMetrics()
        self._calls: set[asyncio.Task[None]] = set()

    def note(self, decision: Decision) -> None:
        """Count what a decision lost."""
        if decision.wanted:
            lost = self._wake.note(decision, time.monotonic())
            self._metrics.lost(
                decision.wanted, decision.capacity_regret, quality=lost.quality, usd=lost.usd
            )

    def note_refused(self, exchange: Exchange, error: NoCandidateError) -> NoCandidateError:
        """Count a request that nobody can answer; return the error with when to ask again."""
        call = exchange.call
        refused = {
            name: refusal
            for name, refusal in error.refusals.items()
            if not call.is_pinned or name == call.model
        }
        cold = [name for name, refusal in refused.items() if refusal == Refusal.COLD]
        starts_s = [
            self._wake.note_refused(exchange.pool, cold, time.monotonic()),
            *(
                standing.capacity.start_s
                for standing in exchange.pool.standings
                if refused.get(standing.candidate.id) == Refusal.STARTING
            ),
        ]
        soonest_s = min((start_s for start_s in starts_s if start_s is not None), default=None)
        if soonest_s is None:
            return error
        return NoCandidateError(error.refusals, max(soonest_s, error.retry_after_s))

    def status(self) -> dict[str, dict[str, float]]:
        """Return what each candidate lost since the start, and how often it was nudged."""
        return self._wake.status()

    async def run(self) -> None:
        """Nudge forever. Cancel the task to stop."""
        while True:
            await asyncio.sleep(PERIOD_S)
            self._metrics.pool_age(self._watcher.age_s())
            for nudge in self._wake.due(self._watcher.pool, time.monotonic()):
                logger.warning("%s is wanted: %d calls", nudge.candidate_id, nudge.num_calls)
                self._metrics.nudged(nudge.candidate_id)
                task = asyncio.get_running_loop().create_task(_call(nudge))
                self._calls.add(task)
                task.add_done_callback(self._calls.discard)


async def _call(nudge: Nudge) -> None:
    """Make the calls and wait for their end; what becomes of them says nothing."""
    try:
        handle = await asyncio.to_thread(
            serve.get_app_handle, f"{APPLICATION_PREFIX}{nudge.candidate_id}"
        )
        calls = [handle.hold.remote(nudge.for_s) for _ in range(nudge.num_calls)]
        async with asyncio.timeout(START_PATIENCE_S + nudge.for_s):
            await asyncio.gather(*calls, return_exceptions=True)
    except Exception as error:  # noqa: BLE001 - nobody waits for it
        logger.warning("%s was not nudged: %s", nudge.candidate_id, error)
