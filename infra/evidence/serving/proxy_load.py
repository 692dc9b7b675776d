"""Questions for two proxies, in turns: what they answer, how fast, and for how much CPU time."""

from __future__ import annotations

import asyncio
import base64
import bisect
import io
import json
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

import aiohttp
import numpy as np
import psutil
from PIL import Image

from infra.evidence.serving.proxy_sides import MODEL

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from infra.evidence.serving.proxy_sides import Side

NUM_TEXT_CHARS = 200
FILLER = "What is in the picture, and what does it stand for? " * 8
NUM_IMAGE_BYTES = 150_000
"""Which base64 makes 200 kB of."""

IMAGE_SIZE = (1024, 768)
NUM_IMAGES = 16
SEED = 9_090
TIMEOUT_S = 60.0
WORDS = b"four hundred and two"
"""What `tests/instant.py` answers."""


@dataclass(slots=True)
class Turns:
    """What came of all turns of one side under one load."""

    num_requests: int = 0
    num_failed: int = 0
    elapsed_s: float = 0.0
    latencies_s: list[float] = field(default_factory=list)
    cpu_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """CPU seconds by role."""


class Payloads:
    """Makes request bodies, every one of its own: no cache can help."""

    def __init__(self) -> None:
        """Draw the pictures."""
        rng = np.random.default_rng(SEED)
        self._images = [jpeg(rng) for _ in range(NUM_IMAGES)]
        self._numbers = count()

    def body(self, kind: str) -> bytes:
        """Return a request with text only, or with a picture of its own as well."""
        number = next(self._numbers)
        text = (f"Question {number}: " + FILLER)[:NUM_TEXT_CHARS]
        content: Any = text
        if kind == "image":
            image = stamped(self._images[number % NUM_IMAGES], number)
            url = f"data:image/jpeg;base64,{base64.b64encode(image).decode()}"
            content = [
                {"type": "text", "text": text},
                {"type": "image_url", "image_url": {"url": url}},
            ]
        body = {"model": MODEL, "messages": [{"role": "user", "content": content}]}
        return json.dumps(body).encode()


def jpeg(rng: np.random.Generator) -> bytes:
    """Return a picture of noisy patches that takes just under `NUM_IMAGE_BYTES` as a JPEG."""
    width, height = IMAGE_SIZE
    patches = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
    smooth = np.asarray(patches.resize(IMAGE_SIZE, Image.Resampling.BICUBIC), dtype=np.float32)
    noisy = smooth + rng.normal(0, 12, (height, width, 3))
    image = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))

    def encoded(quality: int) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        return buffer.getvalue()

    beyond = bisect.bisect(range(1, 96), NUM_IMAGE_BYTES, key=lambda q: len(encoded(q)))
    return encoded(beyond)


def stamped(data: bytes, number: int) -> bytes:
    """Return a JPEG with a number in a comment, which makes it another file."""
    comment = f"{number:012d}".encode()
    return data[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + data[2:]


async def take_turn(
    side: Side, payloads: Payloads, kind: str, *, concurrency: int, for_s: float, into: Turns
) -> None:
    """Keep so many requests in flight for a while."""
    processes = side.processes()
    before = cpu_s(processes)
    began_s = time.monotonic()
    async with _session(side) as http:

        async def ask_on() -> None:
            while time.monotonic() < began_s + for_s:
                await _ask(http, side.url, payloads.body(kind), into)

        await asyncio.gather(*(ask_on() for _ in range(concurrency)))
    into.elapsed_s += time.monotonic() - began_s
    for pid, (role, used_s) in cpu_s(processes).items():
        into.cpu_s[role] += used_s - before[pid][1]


async def flow(side: Side, payloads: Payloads, kinds: Iterator[str], *, until_s: float) -> Turns:
    """Keep one request in flight until a monotonic time."""
    turns = Turns()
    async with _session(side) as http:
        while time.monotonic() < until_s:
            await _ask(http, side.url, payloads.body(next(kinds)), turns)
    return turns


async def compare(
    sides: Sequence[Side],
    payloads: Payloads,
    kind: str,
    *,
    concurrency: int,
    num_rounds: int,
    turn_s: float,
) -> dict[str, dict[str, Any]]:
    """Return the figures of each side, whose turns alternate."""
    told: dict[str, Turns] = defaultdict(Turns)
    for number in range(num_rounds):
        for side in sides if number % 2 else reversed(sides):
            await take_turn(
                side,
                payloads,
                kind,
                concurrency=concurrency,
                for_s=turn_s,
                into=told[side.name],
            )
    return {name: figures(turns) for name, turns in told.items()}


def figures(turns: Turns) -> dict[str, Any]:
    """Return what JSON can say of a side's turns."""
    p50_s, p99_s = np.quantile(turns.latencies_s or [0.0], (0.5, 0.99))
    return {
        "num_requests": turns.num_requests,
        "num_failed": turns.num_failed,
        "elapsed_s": turns.elapsed_s,
        "p50_s": float(p50_s),
        "p99_s": float(p99_s),
        "cpu_s": dict(turns.cpu_s),
    }


def cpu_s(processes: dict[str, list[psutil.Process]]) -> dict[int, tuple[str, float]]:
    """Return role and CPU seconds so far of each process that lives."""
    found = {}
    for role, members in processes.items():
        for process in members:
            with suppress(psutil.Error):
                times = process.cpu_times()
                found[process.pid] = (role, times.user + times.system)
    return found


def _session(side: Side) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
        headers={"content-type": "application/json", **side.headers},
    )


async def _ask(http: aiohttp.ClientSession, url: str, body: bytes, into: Turns) -> None:
    began_s = time.perf_counter()
    is_ok = False
    with suppress(aiohttp.ClientError, TimeoutError):
        async with http.post(f"{url}/v1/chat/completions", data=body) as response:
            is_ok = WORDS in await response.read() and response.ok
    into.latencies_s.append(time.perf_counter() - began_s)
    into.num_requests += 1
    into.num_failed += not is_ok
