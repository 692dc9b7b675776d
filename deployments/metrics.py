"""Counts of what ingress and router did, on Ray's metric endpoint."""

from __future__ import annotations

import logging
from collections import Counter as Counts
from math import isfinite
from typing import TYPE_CHECKING

from ray.serve.metrics import Counter, Gauge, Histogram

from deployments.dispatching.race import RaceEvent
from deployments.fail_open import reason_of
from router.records import Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deployments.exchange import Exchange
    from monitoring.outcome import Status
    from router.errors import NoCandidateError
    from router.exploration import Regret
    from router.records import Pool

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
            description="Decisions made without the router because it failed, by reason.",
            tag_keys=("reason", "error"),
        )
        self._dispatch_events = Counter(
            "pointsman_dispatch_events_total",
            description="Retries, hedges, ejections, second decisions, retries out of budget.",
            tag_keys=("event", "candidate"),
        )
        self._panics = Counter(
            "pointsman_ejection_panics_total",
            description="Requests for which ejections were ignored.",
        )
        self._in_flight = Gauge(
            "pointsman_requests_in_flight",
            description="Requests that an ingress replica works on.",
        )
        self._ejected = Gauge(
            "pointsman_ejected_candidates",
            description="Candidates that an ingress replica masks because they failed.",
        )
        self._retries_left = Gauge(
            "pointsman_retry_budget_left",
            description="Retries that an ingress replica may make at once.",
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
        self._first_token = Histogram(
            "pointsman_time_to_first_token_seconds",
            description="From arrival to the first byte of the answer.",
            boundaries=LATENCY_BOUNDS_S,
            tag_keys=("candidate",),
        )
        self._decide = Histogram(
            "pointsman_decide_seconds",
            description="From the pictures' arrival to the decision, features included.",
            boundaries=LATENCY_BOUNDS_S,
            tag_keys=("policy",),
        )

    def refused(self, error: Exception) -> None:
        """Count a request that was not even decided."""
        self._refused.inc(tags={"error": type(error).__name__})

    def router_failed(self, error: Exception) -> None:
        """Count and log a decision that the router did not make."""
        name, reason = type(error).__name__, reason_of(error)
        self._router_failures.inc(tags={"reason": reason, "error": name})
        logger.warning("the default candidate answers: %s: %s: %s", reason, name, error)

    def dispatched(self, event: RaceEvent, candidate_id: str) -> None:
        """Count what happened on the way to an answer."""
        self._dispatch_events.inc(tags={"event": event.value, "candidate": candidate_id})
        if event is not RaceEvent.RETRY:
            logger.warning("dispatch: %s %s", event.value, candidate_id)

    def panicked(self, error: NoCandidateError) -> None:
        """Count a request for which ejections were ignored, since they left nobody."""
        if Refusal.EJECTED in error.refusals.values():
            self._panics.inc()

    def load(self, pool: Pool, *, num_in_flight: int, retries_left: float) -> None:
        """Show how busy the replica is."""
        self._in_flight.set(num_in_flight)
        self._ejected.set(sum(s.refusal is Refusal.EJECTED for s in pool.standings))
        self._retries_left.set(retries_left)

    def finished(self, exchange: Exchange, status: Status) -> None:
        """Count a request that was decided."""
        candidate = exchange.answered_by or ""
        policy = exchange.decision.policy.value if exchange.decision else ""
        tags = {"status": status.value, "policy": policy, "candidate": candidate}
        self._requests.inc(tags=tags)
        self._latency.observe(max(exchange.elapsed_s(), 1e-6), tags={"candidate": candidate})
        timing = exchange.timing
        if timing.time_to_first_token_s:
            self._first_token.observe(timing.time_to_first_token_s, tags={"candidate": candidate})
        if timing.decide_s:
            self._decide.observe(timing.decide_s, tags={"policy": policy})
        if exchange.usage and exchange.usage.cost_usd > 0:
            self._cost.inc(exchange.usage.cost_usd, tags={"candidate": candidate})


class CapacityMetrics:
    """What missing replicas cost, as one ingress replica saw it."""

    def __init__(self) -> None:
        """Register the metrics."""
        self._wanted = Counter(
            "pointsman_wanted_in_vain_total",
            description="Requests that another candidate would have got with a free replica.",
            tag_keys=("candidate",),
        )
        self._regret = Counter(
            "pointsman_capacity_regret_total",
            description="Utility lost because the candidate had no free replica.",
            tag_keys=("candidate",),
        )
        self._regret_part = Gauge(
            "pointsman_capacity_regret",
            description="The same in quality and in USD since the start; gains are negative.",
            tag_keys=("candidate", "unit"),
        )
        self._nudges = Counter(
            "pointsman_wakes_total",
            description="Wishes for one more replica.",
            tag_keys=("candidate",),
        )
        self._pool_age = Gauge(
            "pointsman_pool_age_seconds",
            description="Age of what is known of the candidates' replicas.",
        )

    def lost(self, candidate_id: str, regret: float, quality: float, usd: float) -> None:
        """Count a request; the last two are sums since the start."""
        tags = {"candidate": candidate_id}
        self._wanted.inc(tags=tags)
        if regret > 0:
            self._regret.inc(regret, tags=tags)
        self._regret_part.set(quality, tags=tags | {"unit": "quality"})
        self._regret_part.set(usd, tags=tags | {"unit": "usd"})

    def nudged(self, candidate_id: str) -> None:
        """Count a wish."""
        self._nudges.inc(tags={"candidate": candidate_id})

    def pool_age(self, age_s: float) -> None:
        """Show how old the pool is."""
        self._pool_age.set(age_s)


class LogMetrics:
    """What became of the rows that one ingress replica had for the outcome log."""

    def __init__(self) -> None:
        """Register the metrics."""
        self._rows = Counter(
            "pointsman_log_rows_total",
            description="Rows by what became of them; a row is spooled, then written.",
            tag_keys=("table", "result"),
        )
        self._retries = Counter(
            "pointsman_log_retries_total",
            description="Tries to commit a segment that failed.",
            tag_keys=("table",),
        )
        self._written = Counter(
            "pointsman_log_written_bytes_total",
            description="Bytes of committed segments.",
            tag_keys=("table",),
        )
        self._waiting = Gauge(
            "pointsman_log_waiting_bytes",
            description="Bytes in the spool, on their way into the log.",
            tag_keys=("table",),
        )
        self._shown: Counts[tuple[str, str]] = Counts()

    def show(self, counts: Mapping[str, Mapping[str, int]]) -> None:
        """Show what became of each table's rows since the start; see ``log_counts``."""
        for table, of_table in counts.items():
            tags = {"table": table}
            for name, total in of_table.items():
                more, self._shown[table, name] = total - self._shown[table, name], total
                if name == "waiting_bytes":
                    self._waiting.set(total, tags=tags)
                elif not more:  # which Ray's counters refuse
                    continue
                elif name == "retries":
                    self._retries.inc(more, tags=tags)
                elif name == "bytes":
                    self._written.inc(more, tags=tags)
                else:
                    self._rows.inc(more, tags=tags | {"result": name})


class DecisionMetrics:
    """Counters and gauges of one router replica."""

    def __init__(self) -> None:
        """Register the metrics."""
        self._swaps = Counter(
            "pointsman_router_swaps_total",
            description="Router versions taken up or refused.",
            tag_keys=("result",),
        )
        self._kill_switch = Gauge(
            "pointsman_kill_switch",
            description="1 while every query goes to the best single candidate.",
        )
        self._newcomers = Counter(
            "pointsman_newcomers_total",
            description="Profiles registered on their own, taken up or refused.",
            tag_keys=("candidate", "result"),
        )
        self._cap = Gauge(
            "pointsman_newcomer_cap",
            description="Share of the queries for which a newcomer is eligible.",
            tag_keys=("candidate",),
        )
        self._regret_usd = Counter(
            "pointsman_explore_regret_usd_total",
            description="Predicted cost of exploring above the greedy choice, in USD.",
        )
        self._regret_quality = Counter(
            "pointsman_explore_regret_quality_total",
            description="Predicted quality that exploring gave up.",
        )
        self._left = Gauge(
            "pointsman_explore_budget_left",
            description="What is left of this replica's part of the day's regret.",
            tag_keys=("unit",),
        )
        self._shadow = Counter(
            "pointsman_shadow_decisions_total",
            description="Decisions by what the challenger said to them.",
            tag_keys=("result",),
        )
        self._disagreement = Gauge(
            "pointsman_shadow_disagreement",
            description="Share of decisions in which the challenger chooses another.",
        )
        self._gain = Gauge(
            "pointsman_shadow_predicted_gain",
            description="Mean utility that the challenger predicts to gain on a decision.",
        )

    def swapped(self, result: str) -> None:
        """Count a version taken up or refused, or a registry that could not be read."""
        self._swaps.inc(tags={"result": result})

    def killed(self, *, is_killed: bool) -> None:
        """Show the kill switch."""
        self._kill_switch.set(float(is_killed))

    def newcomer(self, candidate_id: str, result: str, cap: float = 0.0) -> None:
        """Count a newcomer's profile and show its cap."""
        self._newcomers.inc(tags={"candidate": candidate_id, "result": result})
        self._cap.set(cap, tags={"candidate": candidate_id})

    def explored(self, regret: Regret, left: Regret) -> None:
        """Count what a decision's exploring costs, and show what is left."""
        if regret.usd > 0:
            self._regret_usd.inc(regret.usd)
        if regret.quality > 0:
            self._regret_quality.inc(regret.quality)
        for unit, amount in (("usd", left.usd), ("quality", left.quality)):
            if isfinite(amount):
                self._left.set(amount, tags={"unit": unit})

    def shadowed(self, result: str) -> None:
        """Count a decision that was shown to the challenger, or was not."""
        self._shadow.inc(tags={"result": result})

    def challenger(self, disagreement: float, predicted_gain: float) -> None:
        """Show how the challenger compares since it is scored."""
        self._disagreement.set(disagreement)
        self._gain.set(predicted_gain)
