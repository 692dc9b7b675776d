"""HTTP replies that tell of an error.

Apart from the ingress because Serve copies its FastAPI app, with the globals that its methods use,
while the class is being made: what is defined further down in that module would be missing.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from fastapi.responses import JSONResponse, StreamingResponse

from deployments.admission import OverloadedError, TurnedAwayError, retry_after
from deployments.attempts import AllFailedError
from deployments.protocol import error_reply
from monitoring.outcome import Status
from router.errors import InvalidInputError, NoCandidateError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping

    from fastapi import Response
    from starlette.types import Receive, Scope, Send

logger = logging.getLogger("pointsman.ingress")


class EventStream(StreamingResponse):
    """Server-sent events that are put in order whatever ends them.

    A client that leaves before the first event leaves a generator that never began, whose
    ``finally`` does not run.

    Args:
        events: The text to send.
        on_end: Called once, after the last byte or when the client is gone.
        headers: Besides the content type.
    """

    def __init__(
        self,
        events: AsyncGenerator[str, None],
        *,
        on_end: Callable[[], None],
        headers: Mapping[str, str],
    ) -> None:
        """Send nothing yet."""
        super().__init__(events, media_type="text/event-stream", headers=dict(headers))
        self._events = events
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            try:
                await self._events.aclose()
            finally:
                self._on_end()


def error_response(error: Exception) -> Response:
    """Return OpenAI's error object for an error."""
    if isinstance(error, TurnedAwayError):
        return _turned_away(error)
    if isinstance(error, AllFailedError):
        logger.error("%s", error)
    reply = error_reply(error)
    return JSONResponse(reply.body, status_code=reply.status, headers=reply.headers)


def _turned_away(error: TurnedAwayError) -> Response:
    """Return 503 where the whole is full, and 429 where one key has too much."""
    is_full = isinstance(error, OverloadedError)
    kind, code = ("server_error", "overloaded") if is_full else ("requests", "rate_limit_exceeded")
    body = {"message": str(error), "type": kind, "param": None, "code": code}
    return JSONResponse(
        {"error": body},
        status_code=503 if is_full else 429,
        headers={"retry-after": retry_after(error)},
    )


def not_found(field: str, value: str) -> Response:
    """Return a 404 for an id that nothing is known of."""
    message = f"{field} {value[:80]!r} is not known; use the id of an answer's receipt"
    body = {"message": message, "type": "invalid_request_error", "param": field}
    return JSONResponse({"error": body | {"code": "not_found"}}, status_code=404)


def status_of(error: Exception) -> Status:
    """Return how a request that got no answer ended."""
    is_refusal = isinstance(error, NoCandidateError | InvalidInputError)
    return Status.REJECTED if is_refusal else Status.FAILED
