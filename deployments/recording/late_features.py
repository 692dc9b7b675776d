"""Step 7, features after the fact: for outcomes whose decision read none, in bounded time.

A pinned request is answered past the router, but learning needs its features. The router computes
them for one question at a time and for a share of the time, so that a flood of pinned requests
keeps neither decisions waiting nor questions in memory; rows beyond that are logged without.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from deployments.question import Question

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import numpy as np
    from numpy.typing import NDArray

    from deployments.exchange import Exchange

SHARE = 0.5
"""Of the time that one encoder may work on this, in the long run."""

BURST_S = 600.0
"""Of such time that may be saved up: 20,000 questions with a picture, at 30 ms each, which is more
than a calibration asks."""

NICENESS = 10
"""Of the thread that decodes pictures: requests that somebody waits for go first."""

MAX_WAITING = 256
"""Questions; at 30 ms each the last of them waits 8 s."""

MAX_WAITING_BYTES = 64 * 1024 * 1024
"""Of the pictures of the questions that wait."""


class LateFeatures:
    """Computes features when there is time for it.

    Args:
        compute: Asks the router for them.
        share: Of one encoder's time; none at all if 0.
        clock_s: A monotonic clock.
    """

    def __init__(
        self,
        compute: Callable[[Question], Awaitable[tuple[str, NDArray[np.float32]]]],
        *,
        share: float = SHARE,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start with all of the burst."""
        self._share = share
        self._compute = compute
        self._clock_s = clock_s
        self._turn = asyncio.Lock()
        self._decoder = ThreadPoolExecutor(
            1, thread_name_prefix="pointsman-decode", initializer=_give_way
        )
        self._left_s = BURST_S if share else 0.0
        self._seen_s = clock_s()
        self._num_waiting = 0
        self._num_bytes = 0

    def has_room(self) -> bool:
        """Return whether another question may wait for its turn."""
        is_full = self._num_waiting >= MAX_WAITING or self._num_bytes >= MAX_WAITING_BYTES
        return not is_full and self._balance_s() > 0

    async def of(self, exchange: Exchange) -> tuple[str, NDArray[np.float32]] | None:
        """Return the hash of the schema and the features; None if there is no time for them.

        Raises:
            BadImageError: If a picture turns out to be damaged.
            Exception: Whatever the router raises.
        """
        num_bytes = sum(len(picture.data) for picture in exchange.pictures)
        self._num_waiting += 1
        self._num_bytes += num_bytes
        try:
            async with self._turn:
                return await self._in_turn(exchange) if self._balance_s() > 0 else None
        finally:
            self._num_waiting -= 1
            self._num_bytes -= num_bytes

    async def _in_turn(self, exchange: Exchange) -> tuple[str, NDArray[np.float32]]:
        began_s = self._clock_s()
        try:
            pictures = await asyncio.get_running_loop().run_in_executor(
                self._decoder, exchange.decode_pictures
            )
            return await self._compute(Question.of(exchange.call.question_text, pictures))
        finally:
            self._left_s -= self._clock_s() - began_s

    def _balance_s(self) -> float:
        """Return the time that is left now."""
        now_s = self._clock_s()
        self._left_s = min(BURST_S, self._left_s + self._share * (now_s - self._seen_s))
        self._seen_s = now_s
        return self._left_s


def _give_way() -> None:
    """Lower the priority of this thread, which Linux has for each by itself."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
