"""Step 7, outcome: one row per request, and one per label that arrives later.

The columns below are the contract between serving and learning. Rows hold no image, no prompt and
no reply; ``query_sha256`` tells equal queries apart without revealing them. Columns named in the
plural run over the pool's candidates, in the order of ``candidate_ids``.

``propensity`` is that of ``choice``. A row whose ``answered_by`` is another is left out of
learning: how probable that answer was depends on who failed, and is not known.

``capacity_regret`` and its parts are what was lost because ``wanted`` had no free replica.
``latencies_s`` include ``waits_s``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from router.records import Decision, QueryShape, Routing

SCHEMA_VERSION = 2
"""Raised when a column changes its meaning; added columns keep it."""


class Status(StrEnum):
    """How a request ended."""

    OK = "ok"
    TRUNCATED = "truncated"
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    FAILED = "failed"


_ATTEMPT = pa.struct(
    [
        ("candidate_id", pa.string()),
        ("started_s", pa.float32()),
        ("duration_s", pa.float32()),
        ("error", pa.string()),
    ]
)

OUTCOME_SCHEMA = pa.schema(
    [
        ("schema_version", pa.int16()),
        ("decision_id", pa.string()),
        ("time", pa.timestamp("us", tz="UTC")),
        ("tenant", pa.string()),
        ("router_version", pa.string()),
        ("feature_schema_hash", pa.string()),
        ("features", pa.list_(pa.float32())),
        ("query_sha256", pa.string()),
        ("num_chars", pa.int32()),
        ("num_images", pa.int16()),
        ("requested_model", pa.string()),
        ("cost_weight", pa.float32()),
        ("latency_weight", pa.float32()),
        ("max_cost_usd", pa.float64()),
        ("max_latency_s", pa.float32()),
        ("candidate_ids", pa.list_(pa.string())),
        ("is_available", pa.list_(pa.bool_())),
        ("refusals", pa.list_(pa.string())),
        ("quality_means", pa.list_(pa.float32())),
        ("quality_stds", pa.list_(pa.float32())),
        ("costs_usd", pa.list_(pa.float64())),
        ("latencies_s", pa.list_(pa.float32())),
        ("utilities", pa.list_(pa.float32())),
        ("pool_age_s", pa.float32()),
        ("choice", pa.string()),
        ("propensity", pa.float64()),
        ("policy", pa.string()),
        ("seed", pa.int64()),
        ("attempts", pa.list_(_ATTEMPT)),
        ("answered_by", pa.string()),
        ("status", pa.string()),
        ("media_s", pa.float32()),
        ("decide_s", pa.float32()),
        ("latency_s", pa.float32()),
        ("time_to_first_token_s", pa.float32()),
        ("input_tokens", pa.int32()),
        ("output_tokens", pa.int32()),
        ("cost_usd", pa.float64()),
        ("propensities", pa.list_(pa.float64())),
        ("regret_usd", pa.float64()),
        ("regret_quality", pa.float32()),
        ("shadow_choice", pa.string()),
        ("shadow_version", pa.string()),
        ("waits_s", pa.list_(pa.float32())),
        ("wanted", pa.string()),
        ("capacity_regret", pa.float32()),
        ("capacity_regret_quality", pa.float32()),
        ("capacity_regret_usd", pa.float64()),
    ]
)

_METRIC = pa.struct([("name", pa.string()), ("value", pa.float32())])

LABEL_SCHEMA = pa.schema(
    [
        ("schema_version", pa.int16()),
        ("decision_id", pa.string()),
        ("time", pa.timestamp("us", tz="UTC")),
        ("score", pa.float32()),
        ("source", pa.string()),
        ("grader_version", pa.string()),
        ("metrics", pa.list_(_METRIC)),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One call of one candidate."""

    candidate_id: str
    started_s: float
    """Seconds after the request arrived."""

    duration_s: float
    """Until its last byte, or until it failed."""

    error: str | None = None
    """What went wrong; None where it answered."""


@dataclass(slots=True, kw_only=True)
class Timing:
    """Where a request's time went, in seconds."""

    media_s: float = 0.0
    decide_s: float = 0.0
    latency_s: float = 0.0
    time_to_first_token_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What the answer consumed."""

    input_tokens: int
    output_tokens: int
    cost_usd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What happened to one request."""

    time: datetime
    decision: Decision
    shape: QueryShape
    routing: Routing
    query_sha256: str
    requested_model: str
    pool_age_s: float
    attempts: tuple[Attempt, ...]
    answered_by: str | None
    status: Status
    timing: Timing = field(default_factory=Timing)
    usage: Usage | None = None
    tenant: str | None = None

    def row(self) -> dict[str, Any]:
        """Return the row of ``OUTCOME_SCHEMA``; features stay an array.

        A list of 1,700 numbers would make the row seven times as dear to the request.
        """
        decision, routing, usage = self.decision, self.routing, self.usage
        return {
            "schema_version": SCHEMA_VERSION,
            "decision_id": decision.decision_id,
            "time": self.time,
            "tenant": self.tenant,
            "router_version": decision.router_version,
            "feature_schema_hash": decision.feature_schema_hash,
            "features": decision.features_F,
            "query_sha256": self.query_sha256,
            "num_chars": self.shape.num_chars,
            "num_images": self.shape.num_images,
            "requested_model": self.requested_model,
            "cost_weight": routing.cost_weight,
            "latency_weight": routing.latency_weight,
            "max_cost_usd": routing.max_cost_usd,
            "max_latency_s": routing.max_latency_s,
            "candidate_ids": decision.candidate_ids,
            "is_available": decision.is_available,
            "refusals": decision.refusals,
            "quality_means": decision.quality_means,
            "quality_stds": decision.quality_stds,
            "costs_usd": decision.costs_usd,
            "latencies_s": decision.latencies_s,
            "utilities": decision.utilities,
            "pool_age_s": self.pool_age_s,
            "choice": decision.choice or None,
            "propensity": decision.propensity,
            "policy": decision.policy,
            "seed": decision.seed,
            "attempts": [
                {
                    "candidate_id": a.candidate_id,
                    "started_s": a.started_s,
                    "duration_s": a.duration_s,
                    "error": a.error,
                }
                for a in self.attempts
            ],
            "answered_by": self.answered_by,
            "status": self.status,
            "media_s": self.timing.media_s,
            "decide_s": self.timing.decide_s,
            "latency_s": self.timing.latency_s,
            "time_to_first_token_s": self.timing.time_to_first_token_s,
            "input_tokens": None if usage is None else usage.input_tokens,
            "output_tokens": None if usage is None else usage.output_tokens,
            "cost_usd": None if usage is None else usage.cost_usd,
            "propensities": decision.propensities,
            "regret_usd": decision.regret_usd,
            "regret_quality": decision.regret_quality,
            "shadow_choice": decision.shadow_choice or None,
            "shadow_version": decision.shadow_version or None,
            "waits_s": decision.waits_s,
            "wanted": decision.wanted or None,
            "capacity_regret": decision.capacity_regret,
            "capacity_regret_quality": decision.capacity_regret_quality,
            "capacity_regret_usd": decision.capacity_regret_usd,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A quality score of one answer, from a grader or a user."""

    time: datetime
    """When it was given, in UTC; of two labels of one source the later one counts."""

    decision_id: str
    score: float
    """0 to 1."""

    source: str
    """Who scored: a class such as ``gold`` or ``user``, or ``class:name``; see
    `monitoring.label_precedence`."""

    grader_version: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Named parts of the score, each 0 to 1; none where one number was given."""

    def row(self) -> dict[str, Any]:
        """Return the row of ``LABEL_SCHEMA``."""
        return {
            "schema_version": SCHEMA_VERSION,
            "decision_id": self.decision_id,
            "time": self.time,
            "score": self.score,
            "source": self.source,
            "grader_version": self.grader_version,
            "metrics": [{"name": name, "value": value} for name, value in self.metrics.items()]
            or None,
        }
