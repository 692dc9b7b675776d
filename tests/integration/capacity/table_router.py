"""The real ingress, and a router that decides by `router.route` on a fixed table of scores."""

from __future__ import annotations

import numpy as np
from ray import serve
from score_tables import TableScorer, profile

from deployments.ingress import MAX_ONGOING_REQUESTS, Ingress
from deployments.settings import RouterSettings
from router.route import Router, route
from router.utility import Reference

TABLE = {
    "plain": (0.5, 0.001, 0.9),
    "strong": (0.9, 0.001, 1.0),
    "best": (0.95, 0.001, 0.5),
    "lone": (0.6, 0.001, 0.5),
    "shy": (0.6, 0.001, 0.5),
    "huge": (0.99, 0.001, 0.5),
}
"""Quality, cost in USD, latency in seconds."""


class TableRouter:
    """Decides by the table."""

    def __init__(self):
        """Know every candidate."""
        self._router = Router(
            version="table",
            feature_schema_hash="f",
            scorer=TableScorer(TABLE),
            profiles={name: profile(name) for name in TABLE},
            reference=Reference(),
        )

    async def decide(self, _question, shape, **asked):
        """Return the decision."""
        return route(self._router, np.zeros(2, dtype=np.float32), shape, **asked)

    async def features(self, _question):
        """Return no features to speak of."""
        return "f", np.zeros(2, dtype=np.float32)

    async def status(self):
        """Return which version serves."""
        return {"router_version": "table"}


def build(args):
    """Return the router application."""
    options = {"num_cpus": 0}
    router = serve.deployment(TableRouter, name="router", ray_actor_options=options).bind()
    return serve.deployment(
        Ingress,
        name="ingress",
        max_ongoing_requests=MAX_ONGOING_REQUESTS,
        ray_actor_options=options,
    ).bind(RouterSettings.model_validate(args), router)
