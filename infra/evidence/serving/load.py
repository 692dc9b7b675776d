"""Open-loop load on the running system, every third request streamed, and what came of each.

No request waits for an answer to an earlier one: a slow system is asked as often as a quick one.
"""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

import httpx

from infra import services
from infra.asking import messages
from infra.zoo.questions import generate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from infra.zoo.questions import Question

SEED = 7_707
STREAM_EVERY = 3
TIMEOUT_S = 120.0
EMPTY: dict[str, Any] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One request and what came back. Times are monotonic."""

    question: int
    """Which of the load's questions it was."""

    is_stream: bool
    sent_s: float
    first_s: float
    """When the first byte of the answer's body was there; when it ended, if none came."""

    done_s: float
    status: int
    """HTTP status; 0 where the connection failed."""

    error: str = ""
    """What went wrong: the code of the error object, the name of an exception, ``truncated``."""

    decision_id: str = ""
    answered_by: str = ""
    router_version: str = ""
    policy: str = ""
    text: str = ""
    num_ends: int = 0
    """Of ``[DONE]`` in a stream, or whole answers: exactly one is right."""

    retry_after: str = ""

    @property
    def is_ok(self) -> bool:
        """Whether it was answered to its end."""
        return self.status == httpx.codes.OK and not self.error

    @property
    def latency_s(self) -> float:
        """From sending to the last byte."""
        return self.done_s - self.sent_s


@dataclass(slots=True)
class Load:
    """Requests so far; grows while they flow."""

    replies: list[Reply] = field(default_factory=list)
    """In the order in which they ended."""

    num_sent: int = 0

    def since(self, start_s: float, end_s: float = float("inf")) -> list[Reply]:
        """Return the replies to what was sent from one monotonic time to another."""
        return [r for r in self.replies if start_s <= r.sent_s < end_s]

    def failed(self, *, but: Sequence[str] = ()) -> list[Reply]:
        """Return the replies that are no whole answer, but those with one of these errors."""
        return [r for r in self.replies if not r.is_ok and r.error not in but]


def questions(num: int, *, seed: int = SEED) -> list[Question]:
    """Return questions with pictures."""
    return list(generate(num, seed=seed))


def bodies(asked: Sequence[Question], **fields: object) -> Callable[[int], dict[str, Any]]:
    """Return a maker of request bodies: the n-th asks the n-th question, in turn."""
    contents = [messages(question) for question in asked]

    def body(number: int) -> dict[str, Any]:
        return {
            "model": "auto",
            "temperature": 0.0,
            "messages": contents[number % len(contents)],
            "stream": number % STREAM_EVERY == STREAM_EVERY - 1,
        } | fields

    return body


@asynccontextmanager
async def load(
    body: Callable[[int], dict[str, Any]],
    *,
    requests_per_s: float,
    num_questions: int,
    url: str = services.HTTP_URL,
) -> AsyncIterator[Load]:
    """Send requests at a steady rate while the body of the block runs; then await the last ones.

    Args:
        body: Makes the n-th request.
        requests_per_s: The rate.
        num_questions: After how many requests they repeat.
        url: Of the system.
    """
    sent = Load()
    async with client(url) as http, asyncio.TaskGroup() as requests:

        async def send(number: int) -> None:
            asked = await ask(http, body(number), question=number % num_questions)
            sent.replies.append(asked)

        async def send_all() -> None:
            due_s = time.monotonic()
            for number in count():
                requests.create_task(send(number))
                sent.num_sent += 1
                due_s += 1.0 / requests_per_s
                await asyncio.sleep(max(0.0, due_s - time.monotonic()))

        sending = requests.create_task(send_all())
        try:
            yield sent
        finally:
            sending.cancel()


def client(url: str = services.HTTP_URL) -> httpx.AsyncClient:
    """Return a client without a bound on its connections."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
    return httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S, limits=limits, trust_env=False)


async def ask(http: httpx.AsyncClient, body: dict[str, Any], *, question: int = 0) -> Reply:
    """Send one request and read its answer to the end."""
    sent_s, told = time.monotonic(), dict[str, Any]()
    read = _read_stream if body.get("stream") else _read_whole
    status, first_s = 0, None
    try:
        async with http.stream("POST", "/v1/chat/completions", json=body) as response:
            status = response.status_code
            told = _of_headers(response)
            if status != httpx.codes.OK:
                told["error"] = _code(await response.aread())
            else:
                first_s, answer = await read(response)
                told |= answer
    except httpx.HTTPError as error:
        told["error"] = type(error).__name__
    done_s = time.monotonic()
    return Reply(
        question=question,
        is_stream=bool(body.get("stream")),
        sent_s=sent_s,
        first_s=first_s or done_s,
        done_s=done_s,
        status=status,
        **told,
    )


def _of_headers(response: httpx.Response) -> dict[str, Any]:
    headers = response.headers
    return {
        "decision_id": headers.get("x-pointsman-decision-id", ""),
        "answered_by": headers.get("x-pointsman-candidate", ""),
        "router_version": headers.get("x-pointsman-router-version", ""),
        "retry_after": headers.get("retry-after", ""),
    }


def _code(body: bytes) -> str:
    """Return the code of an error object."""
    try:
        return str(json.loads(body)["error"]["code"])
    except (ValueError, KeyError, TypeError):
        return "no_error_object"


async def _read_whole(response: httpx.Response) -> tuple[float, dict[str, Any]]:
    content = await response.aread()
    first_s = time.monotonic()
    try:
        answer = json.loads(content)
        text = answer["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError):
        return first_s, {"error": "malformed"}
    return first_s, {"text": text or "", "num_ends": 1, "policy": answer["pointsman"]["policy"]}


async def _read_stream(response: httpx.Response) -> tuple[float, dict[str, Any]]:
    first_s, num_ends, error, policy, pieces = None, 0, "", "", list[str]()
    async for payload in _payloads(response):
        first_s = first_s or time.monotonic()
        if payload == "[DONE]":
            num_ends += 1
            continue
        event = json.loads(payload)
        if event.get("error"):
            error = "truncated"
        policy = policy or event.get("pointsman", EMPTY).get("policy", "")
        for choice in event.get("choices") or []:
            pieces.append(choice.get("delta", EMPTY).get("content") or "")
    if num_ends != 1 and not error:
        error = f"{num_ends} ends"
    told = {"text": "".join(pieces), "num_ends": num_ends, "error": error, "policy": policy}
    return first_s or time.monotonic(), told


async def _payloads(response: httpx.Response) -> AsyncIterator[str]:
    async for line in response.aiter_lines():
        if line.startswith("data:"):
            yield line.removeprefix("data:").strip()


def quantile(values: Sequence[float], share: float) -> float:
    """Return a quantile, the next larger value where it falls between two; 0 of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
