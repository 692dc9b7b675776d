"""A cap on what a run may spend, kept while many requests are on their way.

What a request costs is known after it. So a guess is reserved before each request and replaced by
the cost after it; a request whose guess does not fit under the cap is not sent.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from router.errors import InvalidInputError, PointsmanError

if TYPE_CHECKING:
    from collections.abc import Callable


class SpendCapError(PointsmanError):
    """The next request may cost more than is left."""


class SpendCap:
    """Counts what was spent and what is reserved. For one event loop; takes no lock.

    Args:
        cap_usd: Most to spend; no bound when None.
        spent_usd: Spent before this run.
    """

    def __init__(self, cap_usd: float | None = None, *, spent_usd: float = 0.0) -> None:
        """Reserve nothing yet.

        Raises:
            InvalidInputError: If the cap is negative or not a number.
        """
        if cap_usd is not None and not cap_usd >= 0:
            raise InvalidInputError(f"a cap must be 0 or more, got {cap_usd}", "spend_cap_usd")
        self.cap_usd = math.inf if cap_usd is None else cap_usd
        self.spent_usd = spent_usd
        self._reserved_usd = 0.0
        self._num_pending = 0
        self._settled = asyncio.Event()

    @property
    def is_capped(self) -> bool:
        """Return whether there is a bound."""
        return math.isfinite(self.cap_usd)

    @property
    def left_usd(self) -> float:
        """Return what may still be reserved; infinite without a cap."""
        return max(self.cap_usd - self.spent_usd - self._reserved_usd, 0.0)

    def reserve(self, guess_usd: float) -> None:
        """Set a guess aside.

        Raises:
            SpendCapError: If it is more than is left.
        """
        if guess_usd > self.left_usd:
            raise SpendCapError(
                f"the cap of {self.cap_usd:.4g} USD is reached: {self.spent_usd:.4g} USD are "
                f"spent and the next request may cost {guess_usd:.4g} USD; raise the cap to go on"
            )
        self._reserved_usd += guess_usd
        self._num_pending += 1

    async def claim(self, guess_usd: Callable[[], float]) -> float:
        """Set a guess aside, once requests on their way have left room for it; return it.

        Args:
            guess_usd: Asked again whenever a request was settled: what others cost tells more.

        Raises:
            SpendCapError: If it is more than is left with no request on its way.
        """
        while True:
            guess = guess_usd()
            try:
                self.reserve(guess)
            except SpendCapError:
                if not self._num_pending:
                    raise
                await self._settled.wait()
            else:
                return guess

    def settle(self, guess_usd: float, cost_usd: float) -> None:
        """Replace a guess by what the request cost; 0 where it failed unpaid."""
        self._num_pending -= 1
        # Sums of fractions leave a rest, which must not outlive the last request.
        rest_usd = max(self._reserved_usd - guess_usd, 0.0)
        self._reserved_usd = rest_usd if self._num_pending else 0.0
        self.spent_usd += cost_usd
        self._settled.set()
        self._settled = asyncio.Event()

    def add(self, cost_usd: float) -> None:
        """Count what was spent without a guess before it."""
        self.spent_usd += cost_usd
