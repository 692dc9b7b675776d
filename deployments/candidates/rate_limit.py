"""How long an endpoint asks to be left alone, read from the headers of its answer. Pure.

Two conventions are in use: ``retry-after`` (RFC 9110, in seconds or as a date; ``retry-after-ms``
beside it) and OpenAI's ``x-ratelimit-remaining-*`` with ``x-ratelimit-reset-*``.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_REST_S = 1.0
"""For an endpoint that says that it is full and not for how long."""

MAX_REST_S = 300.0
"""Longer claims are checked again after this: a key whose daily quota was raised is used again."""

BUSY_STATUSES = frozenset({429, 503})
"""Statuses with which ``retry-after`` means that the endpoint takes nothing more for now."""

RATE_LIMITED = 429

_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
_UNITS_S = (3600.0, 60.0, 1.0, 0.001)


def rest_s(headers: Mapping[str, str], *, status: int, now: datetime) -> float:
    """Return for how many seconds no more should be asked; 0 where more is welcome.

    Args:
        headers: Of any answer, a good one included; keys in lower case, or a mapping that does
            not mind.
        status: The answer's HTTP status.
        now: The wall clock, with its zone, for headers that state a date.
    """
    stated_s = _exhausted_s(headers, now)
    if status in BUSY_STATUSES:
        asked_s = _retry_after_s(headers, now)
        stated_s = stated_s if asked_s is None else max(asked_s, stated_s)
        if status == RATE_LIMITED and not stated_s:
            stated_s = DEFAULT_REST_S
    return min(stated_s, MAX_REST_S)


def _exhausted_s(headers: Mapping[str, str], now: datetime) -> float:
    """Return when the last of the allowances that are used up comes back, in seconds."""
    waits_s = [0.0]
    for kind in ("requests", "tokens"):
        left = _number(headers.get(f"x-ratelimit-remaining-{kind}"))
        if left is not None and left <= 0:
            reset_s = _span_s(headers.get(f"x-ratelimit-reset-{kind}"), now)
            waits_s.append(DEFAULT_REST_S if reset_s is None else reset_s)
    return max(waits_s)


def _retry_after_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return what ``retry-after`` states, the finer header first."""
    in_ms = _number(headers.get("retry-after-ms"))
    if in_ms is not None:
        return max(0.0, in_ms / 1000)
    return _span_s(headers.get("retry-after"), now)


def _span_s(text: str | None, now: datetime) -> float | None:
    """Return the seconds that a header states: ``12``, ``6m0s``, ``20ms`` or a date."""
    if text is None or not text.strip():
        return None
    text = text.strip()
    seconds = _number(text)
    if seconds is not None:
        return max(0.0, seconds)
    if (match := _DURATION.fullmatch(text)) is not None:
        parts = zip(match.groups(), _UNITS_S, strict=True)
        return sum(float(part) * unit_s for part, unit_s in parts if part)
    when = _date(text)
    return None if when is None else max(0.0, (when - now).total_seconds())


def _date(text: str) -> datetime | None:
    """Return the instant that an HTTP or ISO date names."""
    for parse in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            when = parse(text)
        except (ValueError, TypeError, OverflowError):
            continue
        return when if when.tzinfo else when.replace(tzinfo=UTC)
    return None


def _number(text: str | None) -> float | None:
    """Return a finite number, or None where the header is absent or something else."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
