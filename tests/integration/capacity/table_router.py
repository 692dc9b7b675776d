"""The real ingress, and a router that decides by `router.route` on a fixed table of scores."""

from __future__ import annotations

import numpy as np
from ray import serve

from deployments.ingress import MAX_ONGOING_REQUESTS, Ingress
from deployments.settings import RouterSettings
from router.profile import Profile
from router.route import Router, route
from router.scores import Scores
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


class TableScorer:
    """Scores from the table."""

    def score(self, _features_F, *, candidates, **_):
        """Look the candidates up."""
        rows_M3 = np.array([TABLE[candidate.id] for candidate in candidates]).reshape(-1, 3)
        return Scores(
            quality_mean_M=rows_M3[:, 0],
            quality_std_M=np.full(len(rows_M3), 0.1),
            cost_usd_M=rows_M3[:, 1],
            latency_s_M=rows_M3[:, 2],
        )


def profile(name):
    """Return the profile of a candidate of whom nothing was seen."""
    return Profile(
        candidate_id=name,
        kinds_hash="k",
        quality_K=(0.5,),
        num_observed_K=(0.0,),
        output_tokens_K=(128.0,),
        token_R=(0.0,),
        token_std_K=(0.1,),
    )


class TableRouter:
    """Decides by the table."""

    def __init__(self):
        """Know every candidate."""
        self._router = Router(
            version="table",
            feature_schema_hash="f",
            scorer=TableScorer(),
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
