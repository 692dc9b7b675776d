"""What recording costs a request: one application, alternately with and without a recorder."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from PIL import Image

from deployments.protocol import parse_chat_request
from deployments.recording.outcomes import OutcomeRecorder
from deployments.settings import RouterSettings
from monitoring.log_rate import made_up_outcome
from monitoring.outcome import Status
from router.features.picture import PictureLimits, decode_picture

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from deployments.protocol import ChatCall
    from deployments.question import Question
    from monitoring.outcome import Outcome
    from router.features.extract import FeatureExtractor
    from router.records import Decision

NUM_TURNS = 4
"""Each with and without, so that what the machine does besides falls on both."""

NUM_REQUESTS = {"bare": 2000, "text": 800, "picture": 200}
"""Requests a turn, by kind: those with encoders last as long as serving takes for a segment."""

PICTURE_SIZE = (640, 480)
FLUSH_S: float = RouterSettings.model_fields["outcome_flush_s"].default
"""Between segments."""

SCOPE = {
    "type": "http",
    "asgi": {"version": "3.0"},
    "http_version": "1.1",
    "method": "POST",
    "scheme": "http",
    "path": "/v1/chat/completions",
    "raw_path": b"/v1/chat/completions",
    "query_string": b"",
    "headers": [(b"content-type", b"application/json")],
    "server": ("127.0.0.1", 8000),
    "client": ("127.0.0.1", 9),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One kind of request, with and without recording, in seconds of the processor."""

    name: str
    num_requests: int
    """Of each of the two."""

    without_s: float
    recorded_s: float
    recording_s: float
    """Of ``recorded_s``, what the recorder's call and all threads but the application's took: the
    difference of the two would drown in the noise of the encoders."""

    @property
    def cost_share(self) -> float:
        """Throughput of one core that recording takes away."""
        return self.recording_s / self.recorded_s


@dataclass(frozen=True, slots=True)
class _Finished:
    """A request at its end, as far as the recorder asks."""

    call: ChatCall
    made_up: Outcome

    def outcome(self, status: Status, decision: Decision) -> Outcome:
        """Return the request's outcome."""
        return dataclasses.replace(
            self.made_up,
            time=datetime.now(UTC),
            decision=decision,
            shape=self.call.shape,
            status=status,
        )


async def measure_requests(extractor: FeatureExtractor, folder: Path) -> list[Load]:
    """Measure the kinds of request.

    Args:
        extractor: Embeds question and picture.
        folder: An empty one, for the logs.
    """
    loads = []
    for kind, num_requests in NUM_REQUESTS.items():
        spent_s, recording_s = {True: 0.0, False: 0.0}, 0.0
        for turn in range(-1, NUM_TURNS):
            for is_recorded in (True, False) if turn % 2 else (False, True):
                root = folder / f"{kind}-{turn}" if is_recorded else None
                taken_s, of_it_s = await _turn(root, kind, num_requests, extractor)
                if turn >= 0:  # the turn before the first warms up
                    spent_s[is_recorded] += taken_s
                    recording_s += of_it_s
        loads.append(
            Load(
                name=kind,
                num_requests=num_requests * NUM_TURNS,
                without_s=spent_s[False],
                recorded_s=spent_s[True],
                recording_s=recording_s,
            )
        )
    return loads


async def _turn(
    root: Path | None, kind: str, num_requests: int, extractor: FeatureExtractor
) -> tuple[float, float]:
    """Answer requests one after the other.

    Returns:
        Seconds of the processor, commits included, and what of them was recording.
    """
    stamp = time.perf_counter_ns()
    bodies = [_body(kind, stamp + number) for number in range(num_requests)]
    recorder = running = None
    if root is not None:
        recorder = OutcomeRecorder(root, flush_s=FLUSH_S, features=_no_features)
        running = asyncio.create_task(recorder.run())
    calls_s: list[float] = []
    answer = _application(recorder, kind, extractor, calls_s)
    began_s, own_began_s = time.process_time(), time.thread_time()
    for body in bodies:
        await _call(answer, body)
        await asyncio.sleep(0)
    if recorder is not None and running is not None:
        while recorder.counts()["written"] < num_requests:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.05)
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
    taken_s = time.process_time() - began_s
    others_s = taken_s - (time.thread_time() - own_began_s)
    return taken_s, sum(calls_s) + others_s if recorder is not None else 0.0


def _application(
    recorder: OutcomeRecorder | None,
    kind: str,
    extractor: FeatureExtractor,
    calls_s: list[float],
) -> FastAPI:
    """Return the application; it adds to ``calls_s`` what each call of the recorder took."""
    application = FastAPI()
    rng = np.random.default_rng(0)
    num_features = extractor.schema.num_features
    features = [rng.standard_normal(num_features, np.float32) for _ in range(64)]
    number = iter(range(1 << 30))

    @application.post("/v1/chat/completions")
    async def chat(request: Request) -> JSONResponse:
        call = parse_chat_request(await request.body())
        pictures = [
            decode_picture(base64.b64decode(ref.url.partition(",")[2]), limits=PictureLimits())
            for ref in call.image_refs
        ]
        if kind != "bare":
            extractor.extract(call.question_text, pictures)
        n = next(number)
        made_up = made_up_outcome(n, features[n % len(features)])
        decision = made_up.decision
        if recorder is not None:
            began_s = time.thread_time()
            finished: Any = _Finished(call, made_up)
            recorder.add_outcome(finished, Status.OK, decision)
            calls_s.append(time.thread_time() - began_s)
        return JSONResponse({"id": decision.decision_id, "choices": [{"index": 0}]})

    return application


def _body(kind: str, number: int) -> bytes:
    """Return a request that was never seen before."""
    text = f"Which of the shapes in the picture is the largest? {number}"
    content: list[dict[str, Any]] = [{"type": "text", "text": text}]
    if kind == "picture":
        colours = np.random.default_rng(number).integers(0, 256, (6, 8, 3), np.uint8)
        data = BytesIO()
        Image.fromarray(colours).resize(PICTURE_SIZE).save(data, "JPEG")
        url = f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"
        content.append({"type": "image_url", "image_url": {"url": url}})
    message = {"role": "user", "content": content}
    return json.dumps({"model": "auto", "messages": [message]}).encode()


async def _call(application: Callable[..., Any], body: bytes) -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message.get("status", 200) != 200:  # noqa: PLR2004 - OK
            raise RuntimeError(f"the application answered {message['status']}")

    await application(dict(SCOPE), receive, send)


async def _no_features(question: Question) -> tuple[str, NDArray[np.float32]]:
    raise RuntimeError(f"{question} has features")
