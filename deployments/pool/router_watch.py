"""Step 4, seen live: whether any router replica runs, so that nobody waits for one that is gone.

Of a replica that was killed Serve's handle tells only the calls that it had. Later ones wait for
the next replica, which takes many times longer than a decision may.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from deployments.fail_open import RouterGoneError
from deployments.pool.replicas import num_serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

DEPLOYMENT_NAME = "router"
"""Name of the router deployment inside its application."""

TRUSTED_S = 5.0
"""How long it counts that no replica runs; without a later look the router is asked again."""


class RouterWatch:
    """The router replicas as one ingress replica last saw them.

    Args:
        application: Name of the Serve application that holds them.
    """

    def __init__(self, application: str) -> None:
        """Take the router for there until it is seen not to be."""
        self._application = application
        self._gone_at_s: float | None = None
        self._waits: set[asyncio.Timeout] = set()

    def look(self, details: Mapping[str, Any], now_s: float) -> None:
        """Take Serve's status; if no replica runs, whoever waits for a decision stops waiting.

        Args:
            details: The JSON body of ``GET /api/serve/applications/``.
            now_s: When it was fetched, on the monotonic clock.
        """
        application = (details.get("applications") or {}).get(self._application) or {}
        deployment = (application.get("deployments") or {}).get(DEPLOYMENT_NAME)
        if deployment is None or num_serving(deployment):
            self._gone_at_s = None
            return
        self._gone_at_s = now_s
        for wait in self._waits:
            if not wait.expired():
                wait.reschedule(asyncio.get_running_loop().time())

    def is_gone(self, now_s: float) -> bool:
        """Return whether no replica ran at the last look, if that is recent."""
        return self._gone_at_s is not None and now_s - self._gone_at_s <= TRUSTED_S

    @asynccontextmanager
    async def while_there(self, timeout_s: float) -> AsyncIterator[None]:
        """Bound a wait for the router.

        Args:
            timeout_s: Longest wait.

        Raises:
            RouterGoneError: If no replica runs, or none does any more.
            TimeoutError: If the time is up.
        """
        loop = asyncio.get_running_loop()
        if self.is_gone(loop.time()):
            raise RouterGoneError("no router replica runs")
        try:
            async with asyncio.timeout(timeout_s) as wait:
                self._waits.add(wait)
                try:
                    yield
                finally:
                    self._waits.discard(wait)
        except TimeoutError:
            if self.is_gone(loop.time()):
                raise RouterGoneError("the last router replica is gone") from None
            raise
