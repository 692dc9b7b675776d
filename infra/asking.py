"""Ask the running system questions over HTTP, as its users do, with the official client."""

from __future__ import annotations

import asyncio
import base64
import io
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import openai

from infra.zoo.questions import grade
from router.candidate import Price

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from PIL import Image

    from infra.zoo.questions import Question

CONCURRENCY = 4
"""Requests in flight while latency is measured; two cores are busy with that."""

LABEL_SOURCE = "grader:zoo"
LABELS_PER_REQUEST = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One question to put to one model."""

    question: Question
    model: str = "auto"
    cost_weight: float | None = None
    explores: bool = False
    """Whether the router may draw someone else than it would choose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What came back."""

    ask: Ask
    decision_id: str
    answered_by: str
    reply: str
    score: float
    """1 if right, else 0."""

    cost_usd: float
    latency_s: float
    """From sending to the last byte, on the client."""


def messages(question: Question) -> list[dict[str, Any]]:
    """Return OpenAI messages with the pictures as data URLs."""
    parts: list[dict[str, Any]] = [{"type": "text", "text": question.text}]
    parts += [
        {"type": "image_url", "image_url": {"url": data_url(image)}} for image in question.images
    ]
    return [{"role": "user", "content": parts}]


def data_url(image: Image.Image) -> str:
    """Return a picture as a PNG data URL."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def prices(url: str) -> dict[str, Price]:
    """Return the price of every candidate that the system lists."""
    models = httpx.get(f"{url}/v1/models", timeout=30, trust_env=False).raise_for_status().json()
    return {
        model["id"]: Price(
            input_usd_per_mtok=model["pointsman"]["input_usd_per_mtok"],
            output_usd_per_mtok=model["pointsman"]["output_usd_per_mtok"],
        )
        for model in models["data"]
        if model["id"] != "auto"
    }


async def ask_all(
    asks: Iterable[Ask],
    *,
    url: str,
    price_of: Mapping[str, Price],
    concurrency: int = CONCURRENCY,
    on_answer: Callable[[int], None] = lambda _: None,
) -> list[Asked]:
    """Ask and grade; answers come in the order of the asks.

    Raises:
        openai.APIError: If a request fails; nothing is retried, so that a failure shows.
    """
    gate = asyncio.Semaphore(concurrency)
    num_answers = 0
    http = openai.DefaultAsyncHttpxClient(timeout=120, trust_env=False)
    client = openai.AsyncOpenAI(
        base_url=f"{url}/v1", api_key="none", http_client=http, max_retries=0
    )

    async def one(ask: Ask) -> Asked:
        nonlocal num_answers
        async with gate:
            asked = await _ask(client, ask, price_of)
        num_answers += 1
        on_answer(num_answers)
        return asked

    try:
        return list(await asyncio.gather(*(one(ask) for ask in asks)))
    finally:
        await client.close()


async def _ask(client: openai.AsyncOpenAI, ask: Ask, price_of: Mapping[str, Price]) -> Asked:
    wishes: dict[str, float | bool] = {} if ask.explores else {"explore": False}
    if ask.cost_weight is not None:
        wishes["cost_weight"] = ask.cost_weight
    started_s = time.monotonic()
    raw = await client.chat.completions.with_raw_response.create(
        model=ask.model,
        messages=messages(ask.question),  # type: ignore[arg-type]  # checked by the server
        temperature=0.0,
        extra_body={"routing": wishes} if ask.model == "auto" else {},
    )
    latency_s = time.monotonic() - started_s
    completion = raw.parse()
    reply = completion.choices[0].message.content or ""
    answered_by = raw.headers["x-pointsman-candidate"]
    usage = completion.usage
    cost_usd = (
        price_of[answered_by].cost_usd(usage.prompt_tokens, usage.completion_tokens)
        if usage
        else 0.0
    )
    return Asked(
        ask=ask,
        decision_id=raw.headers["x-pointsman-decision-id"],
        answered_by=answered_by,
        reply=reply,
        score=grade(ask.question.answer, reply),
        cost_usd=cost_usd,
        latency_s=latency_s,
    )


async def label_all(asked: Sequence[Asked], *, url: str) -> None:
    """Send the grades as labels of a program that knows the answers.

    Raises:
        httpx.HTTPError: If the system does not take them.
    """
    labels = [
        {"decision_id": a.decision_id, "score": a.score, "source": LABEL_SOURCE} for a in asked
    ]
    async with httpx.AsyncClient(base_url=url, timeout=120, trust_env=False) as client:
        for start in range(0, len(labels), LABELS_PER_REQUEST):
            body = {"labels": labels[start : start + LABELS_PER_REQUEST]}
            (await client.post("/v1/outcomes", json=body)).raise_for_status()
