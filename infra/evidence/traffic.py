"""Steady traffic to the running system, and which router version each answer's receipt names."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import cycle
from typing import TYPE_CHECKING, Any

import httpx

from infra.asking import messages
from infra.zoo.questions import generate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

NUM_QUESTIONS = 100
SEED = 5_151
TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One request and its receipt."""

    sent_s: float
    """Monotonic time."""

    done_s: float
    """Monotonic time."""

    router_version: str
    """Empty where no router decided, or the request failed."""

    failure: str
    """What went wrong: a status, the name of an error; empty if nothing did."""


@dataclass(slots=True)
class Traffic:
    """What was asked so far; grows while requests flow."""

    answers: list[Answered] = field(default_factory=list)
    """In the order in which they arrived."""

    def since(self, start_s: float, end_s: float = float("inf")) -> list[Answered]:
        """Return what was sent from one monotonic time to another."""
        return [a for a in self.answers if start_s <= a.sent_s < end_s]


@asynccontextmanager
async def traffic(url: str, *, requests_per_s: float) -> AsyncIterator[Traffic]:
    """Send questions to ``auto`` at a steady rate while the body runs; then await the last ones.

    No request waits for an answer to an earlier one, so a slow system is asked as often.
    """
    sent = Traffic()
    bodies = cycle([_body(question) for question in generate(NUM_QUESTIONS, seed=SEED)])
    async with (
        httpx.AsyncClient(
            base_url=url,
            timeout=TIMEOUT_S,
            limits=httpx.Limits(max_connections=None),
            trust_env=False,
        ) as client,
        asyncio.TaskGroup() as requests,
    ):
        sending = requests.create_task(_send_all(client, bodies, sent, requests, requests_per_s))
        try:
            yield sent
        finally:
            sending.cancel()


async def _send_all(
    client: httpx.AsyncClient,
    bodies: Iterator[dict[str, Any]],
    sent: Traffic,
    requests: asyncio.TaskGroup,
    requests_per_s: float,
) -> None:
    due_s = time.monotonic()
    while True:
        requests.create_task(_send(client, next(bodies), sent))
        due_s += 1.0 / requests_per_s
        await asyncio.sleep(max(0.0, due_s - time.monotonic()))


async def _send(client: httpx.AsyncClient, body: dict[str, Any], sent: Traffic) -> None:
    sent_s = time.monotonic()
    version, failure = "", ""
    try:
        response = await client.post("/v1/chat/completions", json=body)
    except httpx.HTTPError as error:
        failure = type(error).__name__
    else:
        if response.status_code == httpx.codes.OK:
            version = response.headers["x-pointsman-router-version"]
        else:
            failure = str(response.status_code)
    sent.answers.append(
        Answered(sent_s=sent_s, done_s=time.monotonic(), router_version=version, failure=failure)
    )


def _body(question: Any) -> dict[str, Any]:  # noqa: ANN401 - a zoo question
    return {"model": "auto", "temperature": 0.0, "messages": messages(question)}
