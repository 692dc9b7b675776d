"""Labels: quality scores of past answers, as ``POST /v1/outcomes`` takes them."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deployments.protocol import parse_object
from monitoring.outcome import Label
from router.errors import InvalidInputError

MAX_LABELS = 1000
"""Most labels in one request."""


class LabelFields(BaseModel):
    """One label."""

    model_config = ConfigDict(extra="forbid")

    decision_id: str = Field(min_length=1, max_length=64)
    """Of the answer that is scored; from the header ``x-pointsman-decision-id``."""

    score: float = Field(ge=0, le=1, allow_inf_nan=False)
    """Quality, 0 to 1."""

    source: str = Field(default="user", min_length=1, max_length=64)
    """Who scored: a later label of the same source replaces the earlier one."""

    grader_version: str = Field(default="", max_length=64)
    """Version of the grader, if a program scored."""


class LabelBatch(BaseModel):
    """Several labels."""

    model_config = ConfigDict(extra="forbid")

    labels: list[LabelFields] = Field(min_length=1, max_length=MAX_LABELS)


def parse_labels(body: bytes) -> list[Label]:
    """Return the labels of a request: one object, or ``{"labels": [...]}``.

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
    now = datetime.now(UTC)
    return [
        Label(
            time=now,
            decision_id=label.decision_id,
            score=label.score,
            source=label.source,
            grader_version=label.grader_version,
        )
        for label in batch.labels
    ]
