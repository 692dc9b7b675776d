"""HTTP replies that tell of an error.

Apart from the ingress because Serve copies its FastAPI app, with the globals that its methods use,
while the class is being made: what is defined further down in that module would be missing.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from fastapi.responses import JSONResponse

from deployments.dispatch import AllFailedError
from deployments.protocol import error_reply
from monitoring.outcome import Status
from router.errors import InvalidInputError, NoCandidateError

if TYPE_CHECKING:
    from fastapi import Response

logger = logging.getLogger("pointsman.ingress")


def error_response(error: Exception) -> Response:
    """Return OpenAI's error object for an error."""
    if isinstance(error, AllFailedError):
        logger.error("%s", error)
    reply = error_reply(error)
    return JSONResponse(reply.body, status_code=reply.status, headers=reply.headers)


def not_found(field: str, value: str) -> Response:
    """Return a 404 for an id that nothing is known of."""
    message = f"{field} {value[:80]!r} is not known; use the id of an answer's receipt"
    body = {"message": message, "type": "invalid_request_error", "param": field}
    return JSONResponse({"error": body | {"code": "not_found"}}, status_code=404)


def status_of(error: Exception) -> Status:
    """Return how a request that got no answer ended."""
    is_refusal = isinstance(error, NoCandidateError | InvalidInputError)
    return Status.REJECTED if is_refusal else Status.FAILED
