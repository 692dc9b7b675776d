"""The way out: turn an error into what OpenAI's clients expect of one."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from deployments.attempts import AllFailedError
from router.errors import (
    BadImageError,
    CandidateReplyError,
    ImageUnreachableError,
    InvalidInputError,
    NoCandidateError,
    PointsmanError,
    RequestTooLargeError,
    UnknownModelError,
)


class ErrorReply(NamedTuple):
    """An error as HTTP says it."""

    status: int
    """HTTP status code."""

    body: dict[str, Any]
    """``{"error": {"message", "type", "param", "code"}}``."""

    headers: dict[str, str]
    """Headers besides the content type."""


INVALID_REQUEST = "invalid_request_error"
SERVER_ERROR = "server_error"

_RULES: tuple[tuple[type[PointsmanError], int, str], ...] = (
    (UnknownModelError, 404, "model_not_found"),
    (RequestTooLargeError, 413, "request_too_large"),
    (ImageUnreachableError, 400, "image_unreachable"),
    (BadImageError, 400, "invalid_image"),
    (InvalidInputError, 400, "invalid_value"),
    (NoCandidateError, 503, "no_candidate_available"),
    (CandidateReplyError, 502, "bad_candidate_reply"),
    (AllFailedError, 503, "upstream_failed"),
)
"""Status and code by class; the first that fits counts, so the special come first."""


FAILED_RETRY_AFTER_S = 2
"""Within it a candidate that fails is ejected, and one that died is masked."""


def error_reply(error: Exception) -> ErrorReply:
    """Return status, body and headers for an error.

    Args:
        error: Any exception. Of those that are not the caller's to mend only the fact is told,
            for their text may name paths, hosts or a candidate's words.
    """
    for kind, status, code in _RULES:
        if isinstance(error, kind):
            return ErrorReply(status, {"error": _object(error, code)}, _headers(error))
    told = "the server failed; its log says why"
    return ErrorReply(
        500, {"error": _fields(told, SERVER_ERROR, None, "internal_error")}, _headers(error)
    )


def _object(error: PointsmanError, code: str) -> dict[str, Any]:
    """Return OpenAI's error object for an error that has a rule."""
    if isinstance(error, InvalidInputError):
        return _fields(str(error), INVALID_REQUEST, error.field or None, code)
    if isinstance(error, NoCandidateError):
        return {**_fields(str(error), SERVER_ERROR, None, code), "refusals": error.refusals}
    if isinstance(error, AllFailedError):
        told = "no candidate that was asked gave an answer; try again"
        return _fields(told, SERVER_ERROR, None, code)
    return _fields("the candidate's reply could not be read; try again", SERVER_ERROR, None, code)


def _fields(message: str, kind: str, param: str | None, code: str) -> dict[str, Any]:
    """Return the four fields that OpenAI's clients read."""
    return {"message": message, "type": kind, "param": param, "code": code}


def _headers(error: Exception) -> dict[str, str]:
    """Return when to ask again, where that is known."""
    if isinstance(error, NoCandidateError):
        return {"retry-after": str(max(1, math.ceil(error.retry_after_s)))}
    if isinstance(error, AllFailedError):
        return {"retry-after": str(FAILED_RETRY_AFTER_S)}
    return {}
