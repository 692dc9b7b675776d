"""The ``import_path`` of the router application: ingress and router deployment, bound together."""

from __future__ import annotations

from typing import Any

from ray import serve

from deployments.candidates.block import HEALTH_CHECK_PERIOD_S
from deployments.ingress import MAX_ONGOING_REQUESTS, Ingress
from deployments.router_deployment import router_application
from deployments.settings import RouterSettings


def build(args: dict[str, Any]) -> serve.Application:
    """Build the router application.

    Args:
        args: The block's ``args``; see ``RouterSettings``.

    Raises:
        pydantic.ValidationError: If a key is unknown, missing or out of bounds.
    """
    settings = RouterSettings.model_validate(args)
    return serve.deployment(
        Ingress,
        name="ingress",
        num_replicas=settings.num_ingress_replicas,
        max_ongoing_requests=MAX_ONGOING_REQUESTS,
        health_check_period_s=HEALTH_CHECK_PERIOD_S,
        ray_actor_options={"num_cpus": 0.5},
    ).bind(settings, router_application(settings))
