"""Step 1, request: the extension ``routing``, what a user wishes of the choice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationError

from router.errors import InvalidInputError
from router.records import Routing

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

V = TypeVar("V")

MAX_WEIGHT = 1000.0
"""Far above any use (10 already means money before all); keeps utilities finite."""

CandidateIds = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=256)], ...],
    Strict(strict=False),  # JSON has arrays, no tuples
    Field(max_length=256),
]


class RoutingFields(BaseModel):
    """The JSON object ``routing``, also reachable through the openai client's ``extra_body``."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    cost_weight: float | None = Field(default=None, ge=0, le=MAX_WEIGHT)
    """Quality given up for one reference cost; the server's default when absent."""

    latency_weight: float | None = Field(default=None, ge=0, le=MAX_WEIGHT)
    """Quality given up for one reference latency; the server's default when absent."""

    max_cost_usd: float | None = Field(default=None, gt=0)
    """Refuse candidates whose predicted cost is above this."""

    max_latency_s: float | None = Field(default=None, gt=0)
    """Refuse candidates whose predicted latency is above this."""

    max_quality_drop: float | None = Field(default=None, ge=0, le=1)
    """Take the cheapest candidate that loses no more quality than this against the best one."""

    confidence: float | None = Field(default=None, gt=0, lt=1)
    """Least share of queries that keep to max_quality_drop; the server's default when absent."""

    caution: float | None = Field(default=None, ge=0, le=MAX_WEIGHT)
    """Standard deviations taken off the quality of candidates little is known of."""

    allow: Annotated[CandidateIds, Field(min_length=1)] | None = None
    """Only these candidates, at least one; all when absent."""

    deny: CandidateIds | None = None
    """Never these candidates, even if allowed."""

    explore: bool | None = None
    """Whether the choice may explore; the server's default when absent."""

    priority: Literal["high", "normal", "low"] | None = None
    """How late the request is turned away; the header ``x-pointsman-priority`` goes before it."""

    session: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    """Requests of one session prefer who answered the last one; the header
    ``x-pointsman-session`` goes before it."""

    deadline_s: float | None = Field(default=None, gt=0)
    """Most seconds to the first byte; the server's own bound when absent or longer."""

    def resolve(self, defaults: Routing, *, explores_by_default: bool = True) -> Routing:
        """Return the wishes with the server's defaults in the gaps.

        Args:
            defaults: What the server is configured with, its share of exploration included.
            explores_by_default: Whether a request that is silent about it explores.
        """
        explores = explores_by_default if self.explore is None else self.explore
        return Routing(
            cost_weight=_first(self.cost_weight, defaults.cost_weight),
            latency_weight=_first(self.latency_weight, defaults.latency_weight),
            max_cost_usd=_first(self.max_cost_usd, defaults.max_cost_usd),
            max_latency_s=_first(self.max_latency_s, defaults.max_latency_s),
            max_quality_drop=_first(self.max_quality_drop, defaults.max_quality_drop),
            confidence=_first(self.confidence, defaults.confidence),
            caution=_first(self.caution, defaults.caution),
            allow=_first(self.allow, defaults.allow),
            deny=_first(self.deny, defaults.deny),
            explore_share=defaults.explore_share if explores else 0.0,
        )


def parse_routing(value: object) -> RoutingFields:
    """Return the wishes that a JSON value states; null states none.

    Raises:
        InvalidInputError: If a key is unknown or a value is out of its bounds.
    """
    if value is None:
        return RoutingFields()
    try:
        return RoutingFields.model_validate(value)
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        field = ".".join(("routing", *(str(part) for part in detail["loc"])))
        raise InvalidInputError(f"{field}: {_complaint(detail)}", field) from None


def _complaint(detail: ErrorDetails) -> str:
    """Return what is wrong with one field and what to send."""
    if detail["type"] == "extra_forbidden":
        return f"unknown key; use one of {', '.join(RoutingFields.model_fields)}"
    if detail["type"] in ("model_type", "model_attributes_type"):
        return "send an object"
    message = detail["msg"]
    return f"{message[:1].lower()}{message[1:]}, got {repr(detail['input'])[:60]}"


def _first(given: V | None, default: V) -> V:
    """Return the value given, or else the default."""
    return default if given is None else given
