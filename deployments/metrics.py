"""Counts of what the ingress did, on Ray's metric endpoint."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ray.serve.metrics import Counter, Histogram

if TYPE_CHECKING:
    from deployments.exchange import Exchange
    from monitoring.outcome import Status

logger = logging.getLogger("pointsman.ingress")

LATENCY_BOUNDS_S = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0]


class RequestMetrics:
    """Counters and histograms of one ingress replica."""

    def __init__(self) -> None:
        """Register the metrics."""
        self._requests = Counter(
            "pointsman_requests_total",
            description="Requests by how they ended.",
            tag_keys=("status", "policy", "candidate"),
        )
        self._refused = Counter(
            "pointsman_refused_requests_total",
            description="Requests refused before a decision, by error.",
            tag_keys=("error",),
        )
        self._router_failures = Counter(
            "pointsman_router_failures_total",
            description="Decisions made without the router because it failed, by error.",
            tag_keys=("error",),
        )
        self._cost = Counter(
            "pointsman_cost_usd_total",
            description="Cost of all answers in USD.",
            tag_keys=("candidate",),
        )
        self._latency = Histogram(
            "pointsman_request_seconds",
            description="From arrival to the last byte.",
            boundaries=LATENCY_BOUNDS_S,
            tag_keys=("candidate",),
        )

    def refused(self, error: Exception) -> None:
        """Count a request that was not even decided."""
        self._refused.inc(tags={"error": type(error).__name__})

    def router_failed(self, error: Exception) -> None:
        """Count and log a decision that the router did not make."""
        self._router_failures.inc(tags={"error": type(error).__name__})
        logger.warning("the default candidate answers: %s: %s", type(error).__name__, error)

    def finished(self, exchange: Exchange, status: Status) -> None:
        """Count a request that was decided."""
        candidate = exchange.answered_by or ""
        policy = exchange.decision.policy.value if exchange.decision else ""
        tags = {"status": status.value, "policy": policy, "candidate": candidate}
        self._requests.inc(tags=tags)
        self._latency.observe(max(exchange.elapsed_s(), 1e-6), tags={"candidate": candidate})
        if exchange.usage and exchange.usage.cost_usd > 0:
            self._cost.inc(exchange.usage.cost_usd, tags={"candidate": candidate})
