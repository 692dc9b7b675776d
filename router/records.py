"""The records that cross the steps: what is asked, what may be chosen, what was decided.

Axis legend: F = features, M = candidates, in the order of the pool.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from router.errors import InvalidInputError
from router.floor import check_floor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from router.candidate import Candidate


class Refusal(StrEnum):
    """Why a candidate may not serve a query now."""

    NO_REPLICA = "no_replica"
    COLD = "cold"
    STARTING = "starting"
    DRAINING = "draining"
    EJECTED = "ejected"
    SATURATED = "saturated"
    LACKS_MODALITY = "lacks_modality"
    TOO_MANY_IMAGES = "too_many_images"
    CONTEXT_TOO_SHORT = "context_too_short"
    OVER_PRICE_CAP = "over_price_cap"
    OVER_LATENCY_CAP = "over_latency_cap"
    BELOW_FLOOR = "below_floor"
    DENIED = "denied"
    NO_PROFILE = "no_profile"
    PROBATION = "probation"


REPLICA_REFUSALS = frozenset(
    {
        Refusal.NO_REPLICA,
        Refusal.COLD,
        Refusal.STARTING,
        Refusal.DRAINING,
        Refusal.EJECTED,
        Refusal.SATURATED,
    }
)
"""Refusals that pass by themselves: the candidate would suit the query."""

CAPACITY_REFUSALS = frozenset(
    {Refusal.NO_REPLICA, Refusal.COLD, Refusal.STARTING, Refusal.SATURATED}
)
"""Those of them that more replicas would lift."""


class Policy(StrEnum):
    """How the choice came about.

    ``best_single`` is the kill switch: the available candidate that did best on the whole,
    whatever the query. Its scores and its propensity are those of a routed decision.
    ``fallback`` is a choice without a router, of which nothing can be learned.
    """

    GREEDY = "greedy"
    EXPLORE = "explore"
    PINNED = "pinned"
    FALLBACK = "fallback"
    BEST_SINGLE = "best_single"


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryShape:
    """What the mask and the cost forecast need to know of a query."""

    num_chars: int
    """Characters of text in all messages."""

    num_images: int = 0
    """Images in all messages."""

    max_output_tokens: int | None = None
    """The request's own cap on the reply, if it set one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """What a request wishes of its routing."""

    cost_weight: float = 0.0
    """Quality given up for one reference cost; 0 or more."""

    latency_weight: float = 0.0
    """Quality given up for one reference latency; 0 or more."""

    max_cost_usd: float | None = None
    """Refuse candidates whose predicted cost is above this."""

    max_latency_s: float | None = None
    """Refuse candidates whose predicted latency is above this."""

    allow: tuple[str, ...] | None = None
    """Only these candidates, when given."""

    deny: tuple[str, ...] = ()
    """Never these candidates."""

    max_quality_drop: float | None = None
    """Take the cheapest candidate of whom ``confidence`` says that it loses no more quality than
    this against the best one, 0 to 1; no floor when None."""

    confidence: float = 0.9
    """Least share of queries that keep to ``max_quality_drop``; above 0, below 1."""

    caution: float = 0.0
    """Standard deviations taken off the expected quality of candidates little is known of: 0
    chooses by the mean, 1 or 2 by a lower bound. 0 or more."""

    explore_share: float = 0.0
    """Probability of a uniform draw among the available candidates; 0 to 1."""

    def __post_init__(self) -> None:
        """Refuse weights and shares outside their bounds."""
        check_floor(self.max_quality_drop, self.confidence)
        for name in ("cost_weight", "latency_weight", "caution"):
            if not getattr(self, name) >= 0:
                raise InvalidInputError(
                    f"{name} must be 0 or more, got {getattr(self, name)}", f"routing.{name}"
                )
        if not 0 <= self.explore_share <= 1:
            raise InvalidInputError(
                f"explore_share must be 0 to 1, got {self.explore_share}", "explore_share"
            )


class Capacity(NamedTuple):
    """How much a candidate's replicas take, and what is under way.

    A named tuple, since one for each candidate travels with every decision: it pickles and is
    replaced in a fraction of the time of a dataclass.
    """

    num_slots: int | None = None
    """Queries that one replica works on without one waiting for another; None if not known."""

    max_ongoing: int | None = None
    """Queries that Serve lets into one replica; None if not known."""

    num_in_flight: int = 0
    """Queries under way in all replicas, waiting ones included."""

    slow_start_s: float = 0.0
    """How much later than usual the latest first tokens came, in seconds."""

    start_s: float | None = None
    """Seconds until a first replica runs, where none does; None if none will start."""

    max_replicas: int | None = None
    """Most replicas that the autoscaler may start; None where their number is fixed."""

    target_ongoing: float = 1.0
    """Queries for each replica above which the autoscaler starts another."""


UNKNOWN_CAPACITY = Capacity()


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One candidate and whether its replicas can take a query."""

    candidate: Candidate
    """Who."""

    refusal: Refusal | None = None
    """Why its replicas cannot take a query now; None when they can."""

    num_running: int = 0
    """Replicas that are running."""

    capacity: Capacity = UNKNOWN_CAPACITY
    """How much they take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """All candidates at one instant."""

    standings: tuple[Standing, ...] = ()
    """In the order of the Serve config."""

    seen_at_s: float = 0.0
    """When it was seen, on the observer's monotonic clock, in seconds."""

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """The candidates, in order."""
        return tuple(standing.candidate for standing in self.standings)

    def standing(self, candidate_id: str) -> Standing | None:
        """Return the standing of one candidate, or None where the pool has no such one."""
        return next((s for s in self.standings if s.candidate.id == candidate_id), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Which candidate should answer a query, and all that led to it.

    Every tuple named in the plural runs over the candidates of the pool, in its order.
    """

    decision_id: str
    router_version: str
    feature_schema_hash: str
    candidate_ids: tuple[str, ...]
    refusals: tuple[Refusal | None, ...]
    """Why each candidate is masked; None where it is available."""

    quality_means: tuple[float, ...] = ()
    """Predicted quality, 0..1; empty when the choice was made without a router."""

    quality_stds: tuple[float, ...] = ()
    costs_usd: tuple[float, ...] = ()
    latencies_s: tuple[float, ...] = ()
    """Predicted seconds to the whole answer, ``waits_s`` included."""

    waits_s: tuple[float, ...] = ()
    """Seconds of them that pass before a replica works on the query: its queue, or its start."""

    utilities: tuple[float, ...] = ()
    choice: str = ""
    """The candidate that should answer."""

    propensity: float = 1.0
    """Probability with which ``choice`` was chosen, after mask, budget, probation and exploration.

    It is the choice's alone. Where dispatch is answered by another candidate, how probable that
    answer was depends on who failed, and nobody knows it; such a row is left out of learning."""

    propensities: tuple[float, ...] = ()
    """The same of every candidate: sums to one, 0 where not available; empty without a router."""

    policy: Policy = Policy.GREEDY
    seed: int = 0
    """Seed of the generator that drew the choice."""

    regret_usd: float = 0.0
    """Predicted cost above the greedy choice's, expected over the draws; what exploring spends."""

    regret_quality: float = 0.0
    """Predicted quality below the greedy choice's, expected over the draws."""

    wanted: str = ""
    """Who would have been the greedy choice if everybody had a free replica; empty where that is
    the greedy choice, which did not wait either."""

    capacity_regret: float = 0.0
    """Utility that was lost by that; 0 or more. In units of normalised cost where a floor is
    stated and no weight."""

    capacity_regret_quality: float = 0.0
    """Predicted quality that was lost; negative where ``wanted`` is cheaper or faster instead."""

    capacity_regret_usd: float = 0.0
    """Predicted cost that was spent on top; negative where ``wanted`` is dearer."""

    shadow_choice: str = ""
    """Whom the challenger would have chosen; empty where it was not asked."""

    shadow_version: str = ""
    """The challenger that was asked."""

    features_F: NDArray[np.float32] | None = field(default=None, compare=False)
    """The query's features; kept out of the receipt, written to the outcome log."""

    @property
    def is_available(self) -> tuple[bool, ...]:
        """True where a candidate may serve this query, its luck in the draws aside.

        A newcomer that probation drew out this once had its chance, which ``propensities`` counts;
        an estimate that weighs by them must count it as available.
        """
        return tuple(refusal in (None, Refusal.PROBATION) for refusal in self.refusals)

    @property
    def greedy(self) -> str:
        """The candidate of greatest utility among those that no draw took out."""
        left = [i for i, refusal in enumerate(self.refusals) if refusal is None]
        if not self.utilities or not left:
            return self.choice
        return self.candidate_ids[max(left, key=lambda i: self.utilities[i])]

    @property
    def predicted_quality(self) -> float | None:
        """Predicted quality of the choice, where a router predicted one."""
        if not self.quality_means:
            return None
        return self.quality_means[self.candidate_ids.index(self.choice)]

    @property
    def ranking(self) -> tuple[str, ...]:
        """Available candidates, the choice first, the rest by falling utility.

        A newcomer drawn out by its probation comes last: it is asked before an error is told.
        """
        rest = [i for i, ok in enumerate(self.is_available) if ok]
        if self.utilities:
            rest.sort(key=lambda i: -self.utilities[i])
        rest.sort(key=lambda i: self.refusals[i] is not None)
        others = (self.candidate_ids[i] for i in rest)
        return (self.choice, *(name for name in others if name != self.choice))
