"""A router and candidates that behave as a file says, behind the real ingress, on real Serve.

Each reads ``<folder>/<name>.mode`` at every call, and a candidate appends what happens to it to
``<folder>/<name>.log``, with the wall clock.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path

import numpy as np
from ray import serve

from deployments.ingress import MAX_ONGOING_REQUESTS, Ingress
from deployments.settings import RouterSettings
from router.records import Decision

UTILITIES = {"a": 0.9, "b": 0.8, "c": 0.7}
CHUNK = 'data: {"choices": [{"index": 0, "delta": {"content": "word"}}]}\n\n'


def mode(folder, name):
    """Return what a part is told to do."""
    try:
        return (Path(folder) / f"{name}.mode").read_text().strip() or "ok"
    except FileNotFoundError:
        return "ok"


class Candidate:
    """Answers a word."""

    def __init__(self, args):
        """Take its name."""
        self._name, self._folder = args["id"], args["folder"]

    def reconfigure(self, _):
        """Take the routing card."""

    def _note(self, text):
        with (Path(self._folder) / f"{self._name}.log").open("a") as log:
            log.write(f"{text} {time.time()}\n")  # noqa: TID251 - compared across processes

    async def complete(self, body):
        """Do as the mode says."""
        does = mode(self._folder, self._name)
        self._note("begin")
        try:
            if does == "die":
                os._exit(1)
            if does == "fail":
                raise RuntimeError("out of memory")
            if does == "dead":
                raise RuntimeError("EngineDeadError: EngineCore encountered an issue.")
            if does.startswith("slow"):
                await asyncio.sleep(float(does.removeprefix("slow")))
            if not body["stream"]:
                yield json.dumps({"choices": [], "usage": {"prompt_tokens": 1}})
                return
            yield CHUNK
            if does == "cut":
                raise RuntimeError("cut")
            if does == "drip":
                for _ in range(600):
                    await asyncio.sleep(0.1)
                    yield CHUNK
            yield "data: [DONE]\n\n"
        except (asyncio.CancelledError, GeneratorExit):
            self._note("cancelled")
            raise


class Router:
    """Decides for the best by fixed utilities."""

    def __init__(self, folder):
        """Remember where its mode is."""
        self._folder = folder

    async def decide(self, _question, _shape, *, pool, decision_id, seed, **_):
        """Do as the mode says."""
        does = mode(self._folder, "router")
        if does == "die":
            os._exit(1)
        if does == "raise":
            raise ZeroDivisionError("an encoder failed")
        if does == "hang":
            await asyncio.sleep(3600)
        names = tuple(candidate.id for candidate in pool.candidates)
        refusals = tuple(standing.refusal for standing in pool.standings)
        utilities = tuple(float("nan") if does == "nan" else UTILITIES[name] for name in names)
        free = [n for n, refusal in zip(names, refusals, strict=True) if refusal is None]
        choice = max(free, key=UTILITIES.__getitem__)
        return Decision(
            decision_id=decision_id,
            router_version="stand-in",
            feature_schema_hash="f",
            candidate_ids=names,
            refusals=refusals,
            quality_means=utilities,
            quality_stds=(0.1,) * len(names),
            costs_usd=(0.0,) * len(names),
            latencies_s=(1.0,) * len(names),
            utilities=utilities,
            choice=choice,
            propensities=tuple(float(name == choice) for name in names),
            seed=seed,
            features_F=np.zeros(2, dtype=np.float32),
        )

    async def features(self, _question):
        """Return no features to speak of."""
        return "f", np.zeros(2, dtype=np.float32)

    async def status(self):
        """Return nothing of interest."""
        return {"router_version": "stand-in"}


def build_candidate(args):
    """Return a candidate's application."""
    return serve.deployment(
        Candidate, name="candidate", max_ongoing_requests=64, ray_actor_options={"num_cpus": 0}
    ).bind(args)


def build_router(args):
    """Return the router application: the real ingress, and a router that is told what to do."""
    folder = args.pop("folder")
    options = {"num_cpus": 0}
    router = serve.deployment(Router, name="router", ray_actor_options=options).bind(folder)
    return serve.deployment(
        Ingress,
        name="ingress",
        max_ongoing_requests=MAX_ONGOING_REQUESTS,
        ray_actor_options=options,
    ).bind(RouterSettings.model_validate(args), router)
