"""Step 7, labels: quality scores of past answers, as ``POST /v1/outcomes`` takes them.

A label states a ``score``, or named ``metrics`` from which the score is computed, or both. Sending
one again is safe: of one source's labels of one answer the latest counts, and
`monitoring.label_precedence` decides between sources. A label may come long after its answer.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from deployments.protocol import parse_object
from monitoring.outcome import Label
from router.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_LABELS = 1000
"""Most labels in one request."""

MAX_METRICS = 32
"""Most named metrics in one label."""

MAX_AHEAD_S = 300.0
"""How far a caller's clock may be ahead; a label from the future would never be replaced."""

MAX_AGE_DAYS = 3650
"""Oldest label taken; each day of labels is a folder of the log."""

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
MetricName = Annotated[str, Field(min_length=1, max_length=64)]


class LabelFields(BaseModel):
    """One label."""

    model_config = ConfigDict(extra="forbid")

    decision_id: str = Field(min_length=1, max_length=64)
    """Of the answer that is scored; from the header ``x-pointsman-decision-id``."""

    score: Share | None = None
    """Quality, 0 to 1; computed from the metrics when absent."""

    metrics: dict[MetricName, Share] = Field(default_factory=dict, max_length=MAX_METRICS)
    """Parts of the quality by name, each 0 to 1."""

    source: str = Field(default="user", pattern=r"^[^:]", min_length=1, max_length=64)
    """Who scored, as ``class`` or ``class:name``; a later label of the same source replaces the
    earlier one."""

    grader_version: str = Field(default="", max_length=64)
    """Version of the grader, if a program scored."""

    time: AwareDatetime | None = None
    """When it was scored, with its time zone; now when absent."""


class LabelBatch(BaseModel):
    """Several labels."""

    model_config = ConfigDict(extra="forbid")

    labels: list[LabelFields] = Field(min_length=1, max_length=MAX_LABELS)


def parse_labels(
    body: bytes, *, metric_weights: Mapping[str, float] | None = None, now: datetime | None = None
) -> list[Label]:
    """Return the labels of a request: one object, or ``{"labels": [...]}``.

    Args:
        body: JSON.
        metric_weights: Weight of each metric in the score, above 0; equal ones when None or empty.
        now: The time; read from the clock when None.

    Raises:
        InvalidInputError: If a field is missing, unknown or out of bounds; names it.
    """
    value = parse_object(body)
    is_batch = "labels" in value
    try:
        batch = LabelBatch.model_validate(value if is_batch else {"labels": [value]})
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        path = detail["loc"] if is_batch else detail["loc"][2:]
        field = ".".join(str(part) for part in path)
        raise InvalidInputError(f"{field}: {detail['msg']}", field) from None
    now = now or datetime.now(UTC)
    return [
        _label(
            fields,
            prefix=f"labels.{place}." if is_batch else "",
            metric_weights=metric_weights or {},
            now=now,
        )
        for place, fields in enumerate(batch.labels)
    ]


def score_of_metrics(metrics: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """Return the mean of metrics by the weights given, or the plain mean if none are.

    A metric without a weight does not count; weights of absent metrics do not either.

    Raises:
        InvalidInputError: If no metric has a weight.
    """
    shares = {name: weights.get(name, 0.0) if weights else 1.0 for name in metrics}
    total = sum(shares.values())
    if total <= 0:
        raise InvalidInputError(
            f"metrics: none of {', '.join(metrics) or 'no metric'} has a weight; send a score, or "
            f"one of {', '.join(weights)}",
            "metrics",
        )
    mean = sum(metrics[name] * share for name, share in shares.items()) / total
    return min(max(mean, 0.0), 1.0)


def _label(
    fields: LabelFields, *, prefix: str, metric_weights: Mapping[str, float], now: datetime
) -> Label:
    return Label(
        time=_time(fields, prefix, now),
        decision_id=fields.decision_id,
        score=_score(fields, prefix, metric_weights),
        source=fields.source,
        grader_version=fields.grader_version,
        metrics=fields.metrics,
    )


def _score(fields: LabelFields, prefix: str, metric_weights: Mapping[str, float]) -> float:
    if fields.score is not None:
        return fields.score
    if not fields.metrics:
        field = f"{prefix}score"
        raise InvalidInputError(f"{field}: send a score, or metrics by name", field)
    try:
        return score_of_metrics(fields.metrics, metric_weights)
    except InvalidInputError as error:
        raise InvalidInputError(f"{prefix}{error.message}", f"{prefix}metrics") from None


def _time(fields: LabelFields, prefix: str, now: datetime) -> datetime:
    if fields.time is None:
        return now
    latest, earliest = now + timedelta(seconds=MAX_AHEAD_S), now - timedelta(days=MAX_AGE_DAYS)
    # Compared before it is converted: the year 1 in another zone has no UTC.
    if not earliest <= fields.time <= latest:
        field = f"{prefix}time"
        raise InvalidInputError(
            f"{field}: must lie between {earliest.isoformat()} and {latest.isoformat()}, "
            f"got {fields.time.isoformat()}",
            field,
        )
    return fields.time.astimezone(UTC)
