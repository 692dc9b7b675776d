"""A small endpoint that speaks OpenAI's protocol over HTTP and fails as it is told to.

Run in a thread of a test, or by ``python tests/upstream.py PORT``. The upstream model's name says
how a request is met, so that a candidate's block chooses it, or else the request's ``user``; see
``BEHAVIOURS``. ``PUT /behaviours`` with ``{"model": "behaviour"}`` makes a model behave otherwise
from then on, and ``GET /seen`` tells how often each was called and how many clients left.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

WORDS = ("four", " hundred", " and", " two")
USAGE = {"prompt_tokens": 7, "completion_tokens": len(WORDS), "total_tokens": 7 + len(WORDS)}
BASE = {"id": "chatcmpl-1", "created": 1, "model": "the-vendors-own-name"}


@dataclass
class Seen:
    """What arrived, for a test to look at."""

    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    num_left: int = 0
    """Clients that hung up before the end of their answer."""

    told: dict[str, str] = field(default_factory=dict)
    """How a model behaves that is not named after its behaviour."""


def completion(**more: Any) -> dict[str, Any]:
    """Return a whole answer."""
    message = {"role": "assistant", "content": "".join(WORDS)}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {**BASE, "object": "chat.completion", "choices": [choice], "usage": USAGE, **more}


def chunks() -> list[str]:
    """Return the events of an answer: a word each, the end, the usage."""
    deltas: list[tuple[dict[str, str], str | None]] = [({"content": word}, None) for word in WORDS]
    bodies = [
        {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
        for delta, reason in [*deltas, ({}, "stop")]
    ]
    bodies.append({"choices": [], "usage": USAGE})
    base = {**BASE, "object": "chat.completion.chunk"}
    return [f"data: {json.dumps(base | body)}\n\n" for body in bodies]


def error(
    status: int, message: str, headers: dict[str, str] | None = None, **more: Any
) -> Response:
    """Return an error as OpenAI's servers tell it."""
    body = {"message": message, "type": "some_type", "param": None, "code": None, **more}
    return JSONResponse({"error": body}, status_code=status, headers=headers)


def answer(
    body: dict[str, Any], headers: dict[str, str] | None = None, *, seen: Seen | None = None
) -> Response:
    """Return the usual answer; ``slow`` ones take 50 ms a word and note who leaves."""
    if not body.get("stream"):
        return JSONResponse(completion(), headers=headers)

    async def events():
        is_whole = False
        try:
            for text in chunks():
                yield text
                await asyncio.sleep(0.05 if seen else 0)
            yield "data: [DONE]\n\n"
            is_whole = True
        finally:
            if seen and not is_whole:
                seen.num_left += 1

    return StreamingResponse(events(), media_type="text/event-stream", headers=headers)


def texts(*parts: str, then: Exception | None = None) -> Response:
    """Return a stream of just these texts, which may break."""

    async def events():
        for part in parts:
            yield part
            await asyncio.sleep(0.01)
        if then is not None:
            raise then

    return StreamingResponse(events(), media_type="text/event-stream")


async def hang(request: Request, seen: Seen) -> Response:
    """Say nothing for a minute, or until the client leaves."""
    for _ in range(6000):
        if await request.is_disconnected():
            seen.num_left += 1
            break
        await asyncio.sleep(0.01)
    return JSONResponse(completion())


async def late(body: dict[str, Any]) -> Response:
    """Answer after a second."""
    await asyncio.sleep(1.0)
    return answer(body)


async def stall(body: dict[str, Any]) -> Response:
    """Send the first word and then nothing more."""

    async def events():
        yield chunks()[0] if body.get("stream") else "{"
        await asyncio.sleep(60)

    return StreamingResponse(events(), media_type="text/event-stream")


USED_UP = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "30s"}
FULL = {"retry-after": "30"}
BUSY = {"retry-after": "2"}
TOLD = 'data: {"error": {"message": "out of memory", "code": 500}}\n\n'


def cut(_: Any) -> Response:
    """Send two words and hang up."""
    return texts(*chunks()[:2], then=ConnectionError())


def full(_: Any) -> Response:
    """Refuse for half a minute."""
    return error(429, "you are too fast", FULL, code="rate_limit_exceeded")


BEHAVIOURS: dict[str, Any] = {
    "good": answer,
    "used-up": lambda body: answer(body, USED_UP),
    "full": full,
    "busy": lambda _: error(429, "you are too fast", BUSY, code="rate_limit_exceeded"),
    "full-or-cut": lambda body: cut(body) if body.get("stream") else full(body),
    "overloaded": lambda _: error(503, "come again", FULL),
    "no-quota": lambda _: error(429, "pay first", code="insufficient_quota"),
    "broken": lambda _: error(500, "a secret of the prompt"),
    "html": lambda _: PlainTextResponse("<html>bad gateway</html>", status_code=502),
    "wrong-key": lambda _: error(401, "wrong key sk-12***89", code="invalid_api_key"),
    "too-long": lambda _: error(400, "at most 512 tokens", param="messages"),
    "told-in-200": lambda _: JSONResponse({"error": {"message": "no", "code": 502}}),
    "no-json": lambda body: texts("data: {no JSON\n\n") if body.get("stream") else text("{no"),
    "no-choices": lambda body: texts('data: {"a": 1}\n\n') if body.get("stream") else text("{}"),
    "list": lambda body: texts("data: [1]\n\n") if body.get("stream") else text("[1]"),
    "empty": lambda body: texts() if body.get("stream") else text('{"choices": []}'),
    "no-end": lambda _: texts(*chunks()[:2]),
    "no-end-but-done": lambda _: texts(*chunks()[:2], "data: [DONE]\n\n"),
    "cut": cut,
    "told-midway": lambda _: texts(*chunks()[:2], TOLD),
    "no-json-midway": lambda _: texts(*chunks()[:2], "data: {no JSON\n\n"),
}
"""How a request is met, by the upstream model's name; ``hang``, ``late``, ``stall`` and ``slow``
besides."""


def text(body: str) -> Response:
    """Return a body as it is, said to be JSON."""
    return Response(body, media_type="application/json")


def build(seen: Seen) -> FastAPI:
    """Return the endpoint's application."""
    app = FastAPI()

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        body = await request.json()
        seen.bodies.append(body)
        seen.headers.append(dict(request.headers))
        behaviour = body.get("user") or seen.told.get(body["model"], body["model"])
        if behaviour == "hang":
            return await hang(request, seen)
        if behaviour == "late":
            return await late(body)
        if behaviour == "stall":
            return await stall(body)
        if behaviour == "slow":
            return answer(body, seen=seen)
        return BEHAVIOURS[behaviour](body)

    @app.put("/behaviours")
    async def behave(request: Request) -> dict[str, str]:
        seen.told |= await request.json()
        return seen.told

    @app.get("/seen")
    async def tell() -> dict[str, Any]:
        calls = Counter(body["model"] for body in seen.bodies)
        return {"calls": calls, "num_left": seen.num_left}

    return app


class Upstream:
    """The endpoint in a thread of this process."""

    def __init__(self) -> None:
        """Listen on a free port."""
        self.seen = Seen()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"
        self._server = uvicorn.Server(_config(self.seen))
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],))
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)

    def stop(self) -> None:
        """Stop listening and drop who is still waiting."""
        self._server.should_exit = self._server.force_exit = True
        self._thread.join()
        self._socket.close()


def _config(seen: Seen, port: int = 0) -> uvicorn.Config:
    return uvicorn.Config(
        build(seen), host="127.0.0.1", port=port, log_level="critical", lifespan="off"
    )


if __name__ == "__main__":
    uvicorn.Server(_config(Seen(), int(sys.argv[1]))).run()
