"""Step 6, the far end: calls that do nothing but count as calls for Serve's autoscaler."""

from __future__ import annotations

import asyncio

MAX_HOLD_S = 120.0


class Holdable:
    """What every kind of candidate can do besides answering."""

    async def hold(self, for_s: float) -> None:
        """Do nothing for a while; the call itself makes the autoscaler start a replica."""
        await asyncio.sleep(min(for_s, MAX_HOLD_S))
