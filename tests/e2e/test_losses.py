"""Every candidate dies, one after the other: whoever asks meanwhile waits for the first start."""

from __future__ import annotations

import asyncio

import httpx
import pytest
import yaml

from infra.evidence.serving.drills_processes import TRUNCATED, controller, engine, replica
from infra.evidence.serving.load import bodies, load, questions

pytestmark = [pytest.mark.ray, pytest.mark.slow]

HEAD_START_S = 25.0
BACK_WITHIN_S = 300.0
MAX_CONTROLLER_MB = 500
"""It weighs 130 to 250 MB, and 710 once it has imported vLLM."""


async def states(http):
    """Return each candidate's state."""
    return (await http.get("/readyz")).json()["candidates"]


async def until(http, wanted, *, of=None):
    """Wait until some or all candidates are in a state."""
    async with asyncio.timeout(BACK_WITHIN_S):
        while True:
            seen = await states(http)
            if all(state == wanted for name, state in seen.items() if of in (None, name)):
                return
            await asyncio.sleep(0.5)


async def test_requests_wait_where_nobody_is_left(system):
    """Those that lose their candidate in mid-work too; and Serve's controller stays light."""
    blocks = yaml.safe_load(system.config.read_text())["applications"]
    first, *others = [block["args"]["id"] for block in blocks if block["name"] != "router"]
    async with httpx.AsyncClient(base_url=system.url, trust_env=False, timeout=30) as http:
        await until(http, "available")
        async with load(bodies(questions(60)), requests_per_s=4.0, num_questions=60) as sent:
            await asyncio.sleep(5.0)
            (await asyncio.to_thread(engine, first)).kill()
            await until(http, "starting", of=first)
            await asyncio.sleep(HEAD_START_S)
            for name in others:
                (await asyncio.to_thread(replica, f"candidate-{name}", "candidate")).kill()
            await until(http, "available", of=first)
        failed = sent.failed(but=[TRUNCATED])
        await until(http, "available")
    assert not failed, [(reply.status, reply.error) for reply in failed]
    assert max(reply.latency_s for reply in sent.replies) > 1.0
    assert controller().memory_info().rss < MAX_CONTROLLER_MB * 2**20
