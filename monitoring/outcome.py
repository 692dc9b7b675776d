"""Step 7, outcome: one row per request, and one per label that arrives later.

The columns below are the contract between serving and learning. Rows hold no image, no prompt and
no reply; ``query_sha256`` tells equal queries apart without revealing them. Columns named in the
plural run over the pool's candidates, in the order of ``candidate_ids``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
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
    ]
)

LABEL_SCHEMA = pa.schema(
    [
        ("schema_version", pa.int16()),
        ("decision_id", pa.string()),
        ("time", pa.timestamp("us", tz="UTC")),
        ("score", pa.float32()),
        ("source", pa.string()),
        ("grader_version", pa.string()),
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
        """Return the row of ``OUTCOME_SCHEMA``."""
        decision, routing, usage = self.decision, self.routing, self.usage
        features_F = decision.features_F
        return {
            "schema_version": SCHEMA_VERSION,
            "decision_id": decision.decision_id,
            "time": self.time,
            "tenant": self.tenant,
            "router_version": decision.router_version,
            "feature_schema_hash": decision.feature_schema_hash,
            "features": None if features_F is None else features_F.tolist(),
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
            "refusals": [None if r is None else r.value for r in decision.refusals],
            "quality_means": decision.quality_means,
            "quality_stds": decision.quality_stds,
            "costs_usd": decision.costs_usd,
            "latencies_s": decision.latencies_s,
            "utilities": decision.utilities,
            "pool_age_s": self.pool_age_s,
            "choice": decision.choice or None,
            "propensity": decision.propensity,
            "policy": decision.policy.value,
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
            "status": self.status.value,
            "media_s": self.timing.media_s,
            "decide_s": self.timing.decide_s,
            "latency_s": self.timing.latency_s,
            "time_to_first_token_s": self.timing.time_to_first_token_s,
            "input_tokens": None if usage is None else usage.input_tokens,
            "output_tokens": None if usage is None else usage.output_tokens,
            "cost_usd": None if usage is None else usage.cost_usd,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A quality score of one answer, from a grader or a user."""

    time: datetime
    decision_id: str
    score: float
    """0 to 1."""

    source: str
    grader_version: str = ""

    def row(self) -> dict[str, Any]:
        """Return the row of ``LABEL_SCHEMA``."""
        return {
            "schema_version": SCHEMA_VERSION,
            "decision_id": self.decision_id,
            "time": self.time,
            "score": self.score,
            "source": self.source,
            "grader_version": self.grader_version,
        }
