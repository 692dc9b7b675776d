"""Step 6, reply: pass a candidate's events on; after the first, an error is told inside."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from deployments.protocol import DONE, ChunkWriter, error_event
from monitoring.outcome import Status

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from deployments.attempts import Answer
    from deployments.exchange import Exchange

logger = logging.getLogger("pointsman.ingress")


class Relay:
    """One stream on its way to the user.

    Args:
        exchange: The request.
        answer: What its candidate sends.
        stall_s: Longest silence, in seconds.
    """

    def __init__(self, exchange: Exchange, answer: Answer, *, stall_s: float) -> None:
        """Send nothing yet."""
        self._exchange = exchange
        self._answer = answer
        self._stall_s = stall_s
        self.usage: dict[str, Any] | None = None
        """What the answer reports of it."""

        self.status = Status.CANCELLED
        """How it ended; until it does, as if the user had left."""

    async def events(self) -> AsyncGenerator[str, None]:
        """Yield the text to send; ends with ``[DONE]`` even where the candidate breaks off."""
        exchange, answer = self._exchange, self._answer
        writer = ChunkWriter(exchange.receipt(), include_usage=exchange.call.include_usage)
        try:
            while True:
                async with asyncio.timeout(self._stall_s):
                    chunk = await anext(answer.events, None)
                if chunk is None:
                    break
                self.usage = chunk.get("usage") or self.usage
                if text := writer.write(chunk):
                    yield text
        except Exception as error:
            logger.exception("a stream of %s broke", answer.candidate_id)
            self.status = Status.TRUNCATED
            answer.cancel()
            yield error_event(error)
            yield DONE
            return
        # Before the last event, after which many clients hang up.
        self.status = Status.OK
        yield DONE
