"""A small running system: pinned requests, receipts and labels over HTTP, into a real log."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
import pytest
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from deployments.dispatching.replies import error_response, not_found
from deployments.protocol import models_list
from deployments.recording.labels import parse_labels
from monitoring.outcome import Attempt, Outcome, Status, Timing, Usage
from monitoring.outcome_log import SegmentWriter
from router.candidate import Candidate, Price
from router.errors import InvalidInputError
from router.features.schema import FeatureBlock, FeatureSchema
from router.records import Decision, Policy, QueryShape, Routing

SCHEMA = FeatureSchema((FeatureBlock(name="text", encoder="made-up", sha256="0" * 64, dim=8),))
CANDIDATES = tuple(
    Candidate(id=name, price=Price(input_usd_per_mtok=price, output_usd_per_mtok=price))
    for name, price in (("aster", 10.0), ("birch", 100.0), ("cedar", 50.0))
)
TOKENS = (90, 10)
"""Prompt and reply of every answer; at aster it costs 0.001 USD."""


def features_of(text):
    """Return made-up features of a text."""
    digest = np.frombuffer(hashlib.sha256(text.encode()).digest()[:8], dtype=np.uint8)
    block_8 = (digest / 128.0 - 1.0).astype(np.float32)
    return np.resize(block_8, SCHEMA.num_features)


@dataclass
class System:
    """Candidates that reply with the last word of a question, in upper case where it is odd."""

    root: object
    url: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Candidate and text of each request."""

    label_batches: list[int] = field(default_factory=list)
    known: set[str] = field(default_factory=set)
    fails_on: str = "never asked"
    """Requests with this in their text fail."""

    is_posting_down: bool = False
    sends_cost: bool = True
    on_ask: object = None
    num_answers: int = 0

    def __post_init__(self):
        """Open the log."""
        self.writers = {
            table: SegmentWriter(self.root, table, writer="system")
            for table in ("outcomes", "labels")
        }

    def app(self):
        """Return the HTTP application."""
        app = FastAPI()
        app.get("/v1/models")(self.models)
        app.post("/v1/chat/completions")(self.chat)
        app.post("/v1/outcomes")(self.outcomes)
        app.get("/v1/decisions/{decision_id}")(self.decision)
        return app

    async def models(self):
        """List the pool as serving does."""
        return models_list(CANDIDATES, 0)

    async def chat(self, request: Request):
        """Answer a pinned request and log its outcome."""
        body = await request.json()
        text = body["messages"][0]["content"][0]["text"]
        self.asked.append((body["model"], text))
        if self.on_ask is not None:
            self.on_ask()
        if self.fails_on in text:
            return JSONResponse({"error": {"message": "no"}}, status_code=400)
        decision_id = f"dec_{self.num_answers:06d}"
        self.num_answers += 1
        self.known.add(decision_id)
        candidate = next(c for c in CANDIDATES if c.id == body["model"])
        cost_usd = candidate.price.cost_usd(*TOKENS)
        self.log(decision_id, body["model"], text, cost_usd)
        headers = {"x-pointsman-decision-id": decision_id}
        if self.sends_cost:
            headers["x-pointsman-cost-usd"] = str(cost_usd)
        message = {"role": "assistant", "content": text.split()[-1]}
        usage = {"prompt_tokens": TOKENS[0], "completion_tokens": TOKENS[1], "total_tokens": 100}
        completion = {
            "id": "c", "object": "chat.completion", "created": 0, "model": body["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": usage,
        }  # fmt: skip
        return JSONResponse(completion, headers=headers)

    async def outcomes(self, request: Request):
        """Take labels as serving does."""
        if self.is_posting_down:
            return JSONResponse({"error": {"message": "down"}}, status_code=503)
        try:
            labels = parse_labels(await request.body())
        except InvalidInputError as error:
            return error_response(error)
        for label in labels:
            if label.decision_id not in self.known:
                return not_found("decision_id", label.decision_id)
        for label in labels:
            self.writers["labels"].append(label)
        for writer in self.writers.values():
            await asyncio.to_thread(writer.flush)
        self.label_batches.append(len(labels))
        return {"accepted": len(labels)}

    async def decision(self, decision_id: str):
        """Return a receipt."""
        if decision_id not in self.known:
            return not_found("decision_id", decision_id)
        return {"decision_id": decision_id}

    def log(self, decision_id, candidate_id, text, cost_usd):
        """Log the outcome of a pinned request."""
        decision = Decision(
            decision_id=decision_id,
            router_version="1",
            feature_schema_hash=SCHEMA.hash,
            candidate_ids=tuple(candidate.id for candidate in CANDIDATES),
            refusals=(None,) * len(CANDIDATES),
            choice=candidate_id,
            propensity=1.0,
            policy=Policy.PINNED,
            features_F=features_of(text),
        )
        outcome = Outcome(
            time=datetime.now(UTC),
            decision=decision,
            shape=QueryShape(num_chars=len(text), num_images=0),
            routing=Routing(),
            query_sha256=hashlib.sha256(text.encode()).hexdigest(),
            requested_model=candidate_id,
            pool_age_s=0.1,
            attempts=(Attempt(candidate_id=candidate_id, started_s=0.0, duration_s=0.5),),
            answered_by=candidate_id,
            status=Status.OK,
            timing=Timing(latency_s=0.5, time_to_first_token_s=0.25),
            usage=Usage(input_tokens=TOKENS[0], output_tokens=TOKENS[1], cost_usd=cost_usd),
        )
        self.writers["outcomes"].append(outcome)


@pytest.fixture
def system(tmp_path):
    """Serve a system on a free port; its log lies in ``tmp_path/log``."""
    served = System(tmp_path / "log")
    config = uvicorn.Config(served.app(), port=0, log_level="warning", ws="none", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
    served.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    yield served
    server.should_exit = True
    thread.join()
    for writer in served.writers.values():
        writer.close()


@pytest.fixture(scope="session")
def feature_schema():
    """Return the layout of the system's features."""
    return SCHEMA


@pytest.fixture(scope="session")
def candidates():
    """Return the system's candidates."""
    return CANDIDATES


@pytest.fixture(scope="session")
def features():
    """Return the maker of the features of a text."""
    return features_of
