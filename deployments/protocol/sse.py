"""Step 6, reply: server-sent events, from a candidate's text to the user's."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from deployments.protocol.errors import error_reply
from deployments.protocol.reply import annotate
from router.errors import CandidateReplyError

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Sequence

    from deployments.protocol.reply import Receipt

DONE = "data: [DONE]\n\n"
"""The last event of a stream."""

MAX_EVENT_CHARS = 4 * 1024 * 1024
"""A chunk with many log probabilities has thousands of characters, not millions."""

_LINE_END = re.compile(r"\r\n|\n|\r(?=[^\n])")  # a last \r waits: its \n may come next


class EventParser:
    """Reads a stream of server-sent events, however it is cut into pieces.

    Follows the WHATWG grammar of ``text/event-stream``, of which OpenAI's protocol uses the
    field ``data`` alone, with JSON in it; comments and other fields are passed over.
    """

    def __init__(self) -> None:
        """Start before the first event."""
        self.is_done = False
        """True once ``[DONE]`` was read; what follows it is passed over."""
        self._rest = ""
        self._pieces: list[str] = []
        self._data: list[str] = []
        self._num_chars = 0

    def feed(self, text: str) -> list[dict[str, Any]]:
        """Return the events that this piece completes.

        Raises:
            CandidateReplyError: If an event is not a JSON object or outgrows the cap.
        """
        if not text or self.is_done:
            return []
        self._num_chars += len(text)
        self._check_size()
        self._pieces.append(text)
        # Joining only when a line may have ended keeps a long event in small pieces linear.
        if "\n" not in text and "\r" not in text and not self._rest.endswith("\r"):
            return []
        *lines, self._rest = _LINE_END.split(self._rest + "".join(self._pieces))
        self._pieces = []
        return self._take(lines)

    def close(self) -> list[dict[str, Any]]:
        """Return the event that the end of the stream completes, if its blank line is missing."""
        rest = (self._rest + "".join(self._pieces)).removesuffix("\r")
        self._rest, self._pieces = "", []
        return [] if self.is_done else self._take([rest, ""])

    def _take(self, lines: Sequence[str]) -> list[dict[str, Any]]:
        """Return the events that whole lines complete."""
        events = []
        for line in lines:
            if self.is_done:
                break
            if not line:
                events += self._dispatch()
            elif line.startswith("data:"):
                self._data.append(line.removeprefix("data:").removeprefix(" "))
        return events

    def _dispatch(self) -> list[dict[str, Any]]:
        """Return the event gathered so far and start the next."""
        payload = "\n".join(self._data).strip()
        self._data, self._num_chars = [], 0
        if payload == "[DONE]":
            self.is_done = True
            return []
        return [_object(payload)] if payload else []

    def _check_size(self) -> None:
        """Refuse to gather without bound."""
        if self._num_chars > MAX_EVENT_CHARS:
            raise CandidateReplyError(f"an event is longer than {MAX_EVENT_CHARS} characters")


class ChunkWriter:
    """Turns a candidate's chunks into the user's.

    The first chunk carries the receipt. A candidate is always asked for usage; it is passed on
    only to users who asked for it too.
    """

    def __init__(self, receipt: Receipt, *, include_usage: bool) -> None:
        """Start before the first chunk."""
        self._receipt: Receipt | None = receipt
        self._include_usage = include_usage

    def write(self, chunk: dict[str, Any]) -> str:
        """Return the event to send for a chunk; empty when the user is to see nothing of it."""
        if not self._include_usage and "usage" in chunk:
            if not chunk.get("choices"):
                return ""
            chunk = {key: value for key, value in chunk.items() if key != "usage"}
        if self._receipt is not None:
            chunk, self._receipt = annotate(chunk, self._receipt), None
        return event(chunk)


async def read_events(
    pieces: AsyncIterable[str | Sequence[str]],
) -> AsyncIterator[dict[str, Any]]:
    """Yield the events of a candidate's stream, ``[DONE]`` left out.

    Args:
        pieces: Text as a candidate sends it: parts of events, several at once, or lists of these.

    Raises:
        CandidateReplyError: If an event is not a JSON object or outgrows the cap.
    """
    parser = EventParser()
    async for piece in pieces:
        for text in (piece,) if isinstance(piece, str) else piece:
            for payload in parser.feed(text):
                yield payload
    for payload in parser.close():
        yield payload


def event(payload: dict[str, Any]) -> str:
    """Return one event; ASCII alone, so that half a surrogate pair cannot break the encoding."""
    return f"data: {json.dumps(payload, separators=(',', ':'))}\n\n"


def error_event(error: Exception) -> str:
    """Return the event that tells of an error once the stream has begun; `DONE` follows it."""
    return event(error_reply(error).body)


def _object(payload: str) -> dict[str, Any]:
    """Return the JSON object of one event."""
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError):
        raise CandidateReplyError("an event is not JSON") from None
    if not isinstance(value, dict):
        raise CandidateReplyError("an event is not a JSON object")
    return value
