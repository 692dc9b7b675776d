"""Features of pinned requests are had in bounded time and memory."""

import asyncio
import dataclasses
import io
import json
import time

import numpy as np
import pytest
from PIL import Image

from deployments.exchange import Exchange
from deployments.protocol import parse_chat_request
from deployments.recording.late_features import BURST_S, MAX_WAITING, LateFeatures
from router.errors import BadImageError
from router.features.picture import PictureLimits, check_picture
from router.records import Pool, Routing

FEATURES = ("e" * 64, np.zeros(2, dtype=np.float32))


class Router:
    """Takes so long for each question."""

    def __init__(self, takes_s=0.0):
        """Stand at the start of time."""
        self.now_s = 100.0
        self.takes_s = takes_s
        self.seen = []
        self.num_at_once = self.most_at_once = 0

    def clock_s(self):
        """Return the time."""
        return self.now_s

    async def features(self, question):
        """Compute."""
        self.num_at_once += 1
        self.most_at_once = max(self.most_at_once, self.num_at_once)
        await asyncio.sleep(0)
        self.num_at_once -= 1
        self.now_s += self.takes_s
        self.seen.append(question)
        return FEATURES


def png(color="red"):
    """Return a small picture's bytes."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), color).save(buffer, "PNG")
    return buffer.getvalue()


def exchange(*images):
    """Return a pinned request whose pictures are not decoded."""
    parts = [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{n}"}}
        for n, _ in enumerate(images)
    ]
    content = [{"type": "text", "text": "What colour?"}, *parts]
    body = {"model": "small", "messages": [{"role": "user", "content": content}]}
    one = Exchange(
        call=parse_chat_request(json.dumps(body).encode()),
        routing=Routing(),
        pool=Pool(),
        arrived_s=time.monotonic(),
    )
    one.pictures = tuple(check_picture(data, limits=PictureLimits()) for data in images)
    return one


async def test_pictures_are_decoded_for_it():
    """What travels to the router are thumbnails."""
    router = Router()
    late = LateFeatures(router.features, clock_s=router.clock_s)
    assert await late.of(exchange(png("red"), png("blue"))) is FEATURES
    (question,) = router.seen
    assert [picture.thumbnail.shape for picture in question.pictures] == [(6, 8, 3)] * 2
    assert not any(picture.data for picture in question.pictures)


async def test_one_is_computed_at_a_time():
    """Decisions have the router's other thread for themselves."""
    router = Router()
    late = LateFeatures(router.features, clock_s=router.clock_s)
    told = await asyncio.gather(*(late.of(exchange()) for _ in range(20)))
    assert all(one is FEATURES for one in told)
    assert router.most_at_once == 1


async def test_time_is_saved_up_and_runs_out():
    """A burst, then a tenth of the time."""
    router = Router(takes_s=10.0)
    late = LateFeatures(router.features, share=0.1, clock_s=router.clock_s)
    told = [await late.of(exchange()) for _ in range(200)]
    num_told = sum(one is not None for one in told)
    assert num_told == pytest.approx(BURST_S / 10.0 / (1 - 0.1), abs=2)
    assert not late.has_room()
    router.now_s += 1000.0
    assert late.has_room()
    told = [await late.of(exchange()) for _ in range(50)]
    assert sum(one is not None for one in told) == pytest.approx(10 / (1 - 0.1), abs=2)


async def test_a_share_of_nothing_leaves_no_room():
    """Nor is there a burst."""
    assert not LateFeatures(Router().features, share=0.0).has_room()


async def test_few_wait():
    """Whoever comes later is told at once that there is no room."""
    router = Router()
    late = LateFeatures(router.features, clock_s=router.clock_s)
    tasks = [asyncio.ensure_future(late.of(exchange())) for _ in range(MAX_WAITING)]
    await asyncio.sleep(0)
    assert not late.has_room()
    await asyncio.gather(*tasks)
    assert late.has_room()


async def test_a_damaged_picture_has_none():
    """It ends as a PNG ends, and is none between."""
    data = png()
    damaged = data[:40] + bytes(len(data) - 52) + data[-12:]
    router = Router()
    late = LateFeatures(router.features, clock_s=router.clock_s)
    with pytest.raises(BadImageError, match="damaged"):
        await late.of(exchange(damaged))
    assert late.has_room()


async def test_decoded_pictures_are_not_decoded_again():
    """A fallback's pictures were decoded for the router that failed."""
    one = exchange(png())
    one.pictures = one.decode_pictures()
    again = one.decode_pictures()
    assert again[0] is one.pictures[0]
    assert dataclasses.replace(again[0], data=b"") == again[0]
