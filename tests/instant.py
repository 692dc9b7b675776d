"""A small endpoint that speaks OpenAI's protocol and answers every chat completion at once.

``python tests/instant.py PORT``. It reads the whole request and keeps nothing of it.
"""

from __future__ import annotations

import json
import sys

from aiohttp import web

WORDS = "four hundred and two"
MAX_BODY_BYTES = 64 * 1024 * 1024
CHOICE = {
    "index": 0,
    "message": {"role": "assistant", "content": WORDS},
    "finish_reason": "stop",
}
ANSWER = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "instant",
        "choices": [CHOICE],
        "usage": {"prompt_tokens": 7, "completion_tokens": 4, "total_tokens": 11},
    }
).encode()


async def chat(request: web.Request) -> web.Response:
    """Answer with the same words whatever was asked."""
    await request.read()
    return web.Response(body=ANSWER, content_type="application/json")


async def models(_: web.Request) -> web.Response:
    """Say that the endpoint is there."""
    return web.json_response({"object": "list", "data": [{"id": "instant", "object": "model"}]})


def build() -> web.Application:
    """Return the endpoint's application."""
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app.router.add_post("/v1/chat/completions", chat)
    app.router.add_get("/v1/models", models)
    return app


if __name__ == "__main__":
    web.run_app(build(), host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)
