"""Step 6, the far end: what went wrong at an endpoint, in words that dispatch tells apart.

A fault travels as OpenAI's error object, as vLLM's own errors do. Its ``code`` says whose it is
(400 the request's, 429 nobody's for a while, 5xx the candidate's), its ``type`` says which.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import aiohttp

from deployments.candidates.endpoint import EndpointStatusError
from deployments.candidates.rate_limit import RATE_LIMITED
from router.errors import CandidateReplyError

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_MESSAGE_CHARS = 300
"""Endpoints have answered with whole HTML pages."""

REQUEST_FAULTS = frozenset({400, 413, 422})
"""Statuses that blame the request; 401, 403 and 404 blame the block: its key or its model."""


class FaultKind(StrEnum):
    """What went wrong."""

    RATE_LIMITED = "rate_limit_exceeded"
    BAD_REQUEST = "invalid_request_error"
    REFUSED = "endpoint_refused"
    SERVER_ERROR = "endpoint_error"
    TIMEOUT = "endpoint_timeout"
    UNREACHABLE = "endpoint_unreachable"
    MALFORMED = "endpoint_malformed"
    CUT = "endpoint_cut"


_CODES = {FaultKind.RATE_LIMITED: 429, FaultKind.BAD_REQUEST: 400, FaultKind.TIMEOUT: 504}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One failure of a call."""

    kind: FaultKind
    message: str
    """For the operator's log; of a bad request also for the user."""

    param: str | None = None
    """The field of a bad request."""

    retry_after_s: float = 0.0
    """For how long the endpoint takes nothing more; 0 where it did not say so."""

    def text(self, *, is_stream: bool) -> str:
        """Return the error object: one event of a stream, or the whole reply."""
        body = {
            "message": self.message[:MAX_MESSAGE_CHARS],
            "type": self.kind.value,
            "param": self.param,
            "code": _CODES.get(self.kind, 502),
            "retry_after_s": round(self.retry_after_s, 3),
        }
        text = json.dumps({"error": body})
        return f"data: {text}\n\n" if is_stream else text


class FaultError(Exception):
    """A fault that our own reading of an answer found."""

    def __init__(self, fault: Fault) -> None:
        """Keep the fault in ``args``."""
        super().__init__(fault)
        self.fault = fault


def engine_failure(error: Exception, *, is_stream: bool) -> str:
    """Return the error object for what an engine in this process raised.

    As an exception it would have the caller import vLLM to read it: 0.6 GB, and 11 s in which an
    ingress answered nobody.
    """
    body = {
        "message": str(error)[:MAX_MESSAGE_CHARS],
        "type": type(error).__name__,
        "param": None,
        "code": 500,
    }
    text = json.dumps({"error": body})
    return f"data: {text}\n\n" if is_stream else text


def fault_of(error: Exception, *, has_begun: bool, retry_after_s: float = 0.0) -> Fault | None:
    """Return what an exception of a call means; None if it is nothing that was foreseen.

    Args:
        error: What the call raised.
        has_begun: Whether a part of the answer was already passed on.
        retry_after_s: For how long the endpoint asked to be left alone.
    """
    if isinstance(error, FaultError):
        return error.fault
    if isinstance(error, EndpointStatusError):
        return _blame(error.status, error.told, retry_after_s=retry_after_s)
    if isinstance(error, aiohttp.ClientError):
        return _client_fault(error, has_begun=has_begun)
    if isinstance(error, TimeoutError):
        return Fault(kind=FaultKind.TIMEOUT, message="the answer took too long")
    if isinstance(error, ValueError | RecursionError | CandidateReplyError):
        return Fault(kind=FaultKind.MALFORMED, message="the endpoint's answer is not JSON")
    return None


def told_fault(body: object) -> Fault:
    """Return the fault that an error object within an answer of status 200 tells."""
    told: Mapping[str, Any] = body if isinstance(body, dict) else {}
    status = told.get("code")
    return _blame(status if isinstance(status, int) else 500, told, retry_after_s=0.0)


def _client_fault(error: aiohttp.ClientError, *, has_begun: bool) -> Fault:
    """Return what an exception of the client means."""
    if isinstance(error, TimeoutError):
        return Fault(kind=FaultKind.TIMEOUT, message="the endpoint was silent for too long")
    cause = type(error.__cause__ or error).__name__
    if has_begun:
        return Fault(kind=FaultKind.CUT, message=f"the answer broke off ({cause})")
    return Fault(kind=FaultKind.UNREACHABLE, message=f"no connection ({cause})")


def _blame(status: int, told: Mapping[str, Any], *, retry_after_s: float) -> Fault:
    """Return the fault that a status means.

    Only a bad request is told in the endpoint's own words, since the user has to mend it. Others
    go to logs, where a piece of a prompt or of a key has no place.
    """
    if status in REQUEST_FAULTS:
        return Fault(
            kind=FaultKind.BAD_REQUEST,
            message=str(told.get("message") or f"status {status}"),
            param=told["param"] if isinstance(told.get("param"), str) else None,
        )
    kind = FaultKind.REFUSED
    if status == RATE_LIMITED:
        kind = FaultKind.RATE_LIMITED
    elif status >= 500:  # noqa: PLR2004 - HTTP's server errors
        kind = FaultKind.SERVER_ERROR
    code = re.sub(r"[^\w.-]", "", str(told.get("code") or told.get("type") or ""))[:40]
    message = f"status {status} ({code})" if code else f"status {status}"
    return Fault(kind=kind, message=message, retry_after_s=retry_after_s)
