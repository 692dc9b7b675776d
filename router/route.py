"""Steps 3 to 5: from a query's features to a decision. The page to read first.

    features ──> scores ──> mask ──> utility ──> choice

Pure: the pool, the generator and the decision's id are given. Axis legend: F = features,
M = candidates, in the order of the pool.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from router.capacity import may_be_wanted, shortfall, wait_s
from router.choice import choose
from router.errors import NoCandidateError
from router.exploration import UNBOUNDED, Exploration, Stakes
from router.mask import over_cap, reasons, refuse
from router.records import CAPACITY_REFUSALS, REPLICA_REFUSALS, Decision, Policy, Refusal
from router.utility import FLOOR_COST_WEIGHT, Reference, utilities, wants_cheapest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from router.candidate import Candidate
    from router.choice import Choice
    from router.floor import Floor
    from router.probation import Probation
    from router.profile import Profile
    from router.records import Pool, QueryShape, Routing
    from router.scores import Scorer


@dataclass(frozen=True, slots=True, kw_only=True)
class Router:
    """A router version, ready to decide."""

    version: str
    """Its name in the registry."""

    feature_schema_hash: str
    """Hash of the features it was trained on."""

    scorer: Scorer
    """Predicts quality, cost and latency."""

    profiles: Mapping[str, Profile]
    """What is known of each candidate, by id."""

    reference: Reference
    """Units of cost and latency in the utility."""

    floor: Floor | None = None
    """What a slack below the best prediction costs; without one the slack is 0."""

    probation: Mapping[str, Probation] = field(default_factory=dict)
    """What newcomers are allowed, by id; everybody else is full."""


def route(  # noqa: PLR0913 - each argument is one of the steps' inputs
    router: Router,
    features_F: NDArray[np.float32],
    shape: QueryShape,
    *,
    pool: Pool,
    routing: Routing,
    decision_id: str,
    seed: int,
    exploration: Exploration = UNBOUNDED,
    best_single: bool = False,
) -> Decision:
    """Decide which candidate should answer a query.

    Args:
        router: The version that serves.
        features_F: The query's raw features.
        shape: Size and modalities of the query.
        pool: The candidates and the state of their replicas.
        routing: The request's own wishes.
        decision_id: The id under which receipt and outcome are kept.
        seed: Seed of the generator that draws the choice; stored in the decision.
        exploration: How the explored share is drawn and what it may cost; the caller charges it.
        best_single: The kill switch: whoever did best on the whole, whatever the query.

    Raises:
        NoCandidateError: If every candidate is masked.
    """
    if best_single:  # the floor stands on the predictions that the switch distrusts
        routing = _without_weights(routing)
    forecast = _forecast(router, features_F, shape, pool=pool, routing=routing)
    candidate_ids = forecast.candidate_ids
    if all(forecast.refusals):
        raise NoCandidateError(reasons(candidate_ids, forecast.refusals))
    utility_M = forecast.utilities(routing, router.reference)
    if best_single:
        utility_M = _quality_on_the_whole(router, candidate_ids)
        forecast.cap_M[forecast.cap_M < 1.0] = 0.0
    choice = _choose(forecast, utility_M, routing=routing, exploration=exploration, seed=seed)
    return Decision(
        decision_id=decision_id,
        router_version=router.version,
        feature_schema_hash=router.feature_schema_hash,
        choice=candidate_ids[choice.index],
        policy=Policy.BEST_SINGLE if best_single else choice.policy,
        seed=seed,
        features_F=features_F,
        **forecast.columns(utility_M, choice),
        **forecast.missing(utility_M, choice, routing=routing, reference=router.reference),
    )


def _choose(
    forecast: _Forecast,
    utility_M: NDArray[np.float64],
    *,
    routing: Routing,
    exploration: Exploration,
    seed: int,
) -> Choice:
    """Draw among whom the mask leaves; newcomers only within what they are allowed."""
    stakes = None
    if routing.explore_share:
        stakes = Stakes(
            quality_M=forecast.quality_M,
            quality_std_M=forecast.quality_std_M,
            cost_usd_M=forecast.cost_usd_M,
            mean_utility_M=utility_M + forecast.caution_M * forecast.quality_std_M,
            exploration=exploration,
        )
    return choose(
        utility_M,
        np.array([refusal is None for refusal in forecast.refusals]),
        explore_share=routing.explore_share,
        generator=np.random.default_rng(seed),
        cap_M=forecast.cap_M,
        stakes=stakes,
    )


def _without_weights(routing: Routing) -> Routing:
    """Return what the kill switch leaves of the wishes."""
    return dataclasses.replace(
        routing, max_quality_drop=None, explore_share=0.0, latency_weight=0.0
    )


def _quality_on_the_whole(router: Router, candidate_ids: Sequence[str]) -> NDArray[np.float64]:
    """Return the mean quality that each candidate's profile tells; NaN without one."""
    profiles = (router.profiles.get(name) for name in candidate_ids)
    return np.array([np.nan if profile is None else profile.quality for profile in profiles])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Forecast:
    """Scores and mask over the whole pool; NaN where there is no profile to score by."""

    candidate_ids: tuple[str, ...]
    refusals: list[Refusal | None]
    quality_M: NDArray[np.float64]
    quality_std_M: NDArray[np.float64]
    cost_usd_M: NDArray[np.float64]
    latency_s_M: NDArray[np.float64]
    """With the wait."""

    wait_s_M: NDArray[np.float64]
    """Seconds until a replica works on the query."""

    wantable_M: NDArray[np.bool_]
    """Who could answer, within the caps, if everybody had a free replica."""

    caution_M: NDArray[np.float64]
    """Standard deviations taken off the quality of each; below 0, put on it."""

    cap_M: NDArray[np.float64]
    """Share of the queries for which each is eligible; 1 but for newcomers."""

    def utilities(self, routing: Routing, reference: Reference) -> NDArray[np.float64]:
        """Return each candidate's utility; NaN where there is no profile."""
        quality_M = self.quality_M - self.caution_M * self.quality_std_M
        return utilities(quality_M, self.cost_usd_M, self.latency_s_M, routing, reference)

    def missing(
        self,
        utility_M: NDArray[np.float64],
        choice: Choice,
        *,
        routing: Routing,
        reference: Reference,
    ) -> dict[str, Any]:
        """Return the decision's columns on what is lost for want of replicas, if anything is.

        Args:
            utility_M: Utility of each candidate.
            choice: The choice.
            routing: The request's own wishes.
            reference: The unit of latency.
        """
        if not self.wait_s_M.any() and CAPACITY_REFUSALS.isdisjoint(self.refusals):
            return {}
        lost = shortfall(
            utility_M + routing.latency_weight * self.wait_s_M / reference.latency_s,
            utility_M,
            self.wantable_M,
            int(np.argmax(np.where(choice.eligible_M, utility_M, -np.inf))),
            quality_M=self.quality_M,
            cost_usd_M=self.cost_usd_M,
            cap_M=self.cap_M,
        )
        if lost is None:
            return {}
        return {
            "wanted": self.candidate_ids[lost.at],
            "capacity_regret": lost.utility
            / (FLOOR_COST_WEIGHT if wants_cheapest(routing) else 1),
            "capacity_regret_quality": lost.quality,
            "capacity_regret_usd": lost.usd,
        }

    def hold_caps(self, routing: Routing, known: Sequence[int]) -> None:
        """Refuse whom the request's caps do not allow, for those who have a profile.

        Whoever has no free replica is held to the caps by what it would take with one: its wait
        is not known well, and is the reason for which it is refused already.
        """
        for i in known:
            refusal, wait = self.refusals[i], float(self.wait_s_M[i])
            if refusal is not None and refusal not in REPLICA_REFUSALS:
                continue
            cost_usd, latency_s = float(self.cost_usd_M[i]), float(self.latency_s_M[i])
            over = over_cap(cost_usd, latency_s - wait, routing)
            self.wantable_M[i] &= over is None
            if refusal is None and wait:
                over = over or over_cap(cost_usd, latency_s, routing)
            self.refusals[i] = over or refusal

    def hold_floor(self, routing: Routing, floor: Floor | None) -> None:
        """Refuse whom the floor does not allow.

        The best is looked for among all that the request lets answer, also those whose replicas
        cannot now: a floor that only an absent candidate reaches is refused, not lowered in
        silence. A newcomer sets no floor where another can, and reaches it with its caution off:
        what may be drawn out must not mask the rest.
        """
        caution_M = np.where(self.cap_M < 1.0, np.maximum(self.caution_M, 0.0), 0.0)
        quality_M = self.quality_M - caution_M * self.quality_std_M
        eligible = [i for i, r in enumerate(self.refusals) if r is None or r in REPLICA_REFUSALS]
        known = [i for i in eligible if np.isfinite(quality_M[i])]
        if not known or routing.max_quality_drop is None:
            return
        slack = 0.0
        if floor is not None:
            slack = floor.slack(routing.max_quality_drop, routing.confidence)
        setters = [i for i in known if self.cap_M[i] >= 1.0] or known
        least = max(quality_M[i] for i in setters) - slack
        for i in known:
            if quality_M[i] < least:
                self.wantable_M[i] = False
                if self.refusals[i] is None:
                    self.refusals[i] = Refusal.BELOW_FLOOR

    def columns(self, utility_M: NDArray[np.float64], choice: Choice) -> dict[str, Any]:
        """Return the decision's columns and figures; who was drawn out is on probation."""
        return {
            "candidate_ids": self.candidate_ids,
            "refusals": tuple(
                refusal or (None if is_eligible else Refusal.PROBATION)
                for refusal, is_eligible in zip(self.refusals, choice.eligible_M, strict=True)
            ),
            "quality_means": _floats(self.quality_M),
            "quality_stds": _floats(self.quality_std_M),
            "costs_usd": _floats(self.cost_usd_M),
            "latencies_s": _floats(self.latency_s_M),
            "waits_s": _floats(self.wait_s_M),
            "utilities": _floats(utility_M),
            "propensity": choice.propensity,
            "propensities": _floats(choice.propensities_M),
            "regret_usd": choice.regret.usd,
            "regret_quality": choice.regret.quality,
        }


def _forecast(
    router: Router,
    features_F: NDArray[np.float32],
    shape: QueryShape,
    *,
    pool: Pool,
    routing: Routing,
) -> _Forecast:
    """Score the candidates that have a profile, and mask by standing, fit and caps."""
    candidates = pool.candidates
    refusals = [refuse(s, shape, routing, router.profiles) for s in pool.standings]
    known = [i for i, c in enumerate(candidates) if c.id in router.profiles]
    scores = router.scorer.score(
        features_F,
        num_chars=shape.num_chars,
        num_images=shape.num_images,
        candidates=[candidates[i] for i in known],
        profiles=router.profiles,
    )

    def over_pool(column: NDArray[np.float64]) -> NDArray[np.float64]:
        full_M = np.full(len(candidates), np.nan)
        full_M[known] = column
        return full_M

    latency_s_M = over_pool(scores.latency_s_M)
    wait_s_M = np.zeros(len(candidates))
    for i in known:
        wait_s_M[i] = wait_s(pool.standings[i], float(latency_s_M[i]))
    caution_M, cap_M = _terms(router, candidates, routing)
    forecast = _Forecast(
        candidate_ids=tuple(candidate.id for candidate in candidates),
        refusals=refusals,
        quality_M=over_pool(scores.quality_mean_M),
        quality_std_M=over_pool(scores.quality_std_M),
        cost_usd_M=over_pool(scores.cost_usd_M),
        latency_s_M=latency_s_M + wait_s_M,
        wait_s_M=wait_s_M,
        wantable_M=may_be_wanted(refusals),
        caution_M=caution_M,
        cap_M=cap_M,
    )
    forecast.hold_caps(routing, known)
    if routing.max_quality_drop is not None:
        forecast.hold_floor(routing, router.floor)
    return forecast


def _terms(
    router: Router, candidates: Sequence[Candidate], routing: Routing
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return each candidate's caution and cap."""
    caution_M = np.full(len(candidates), routing.caution)
    cap_M = np.ones(len(candidates))
    if router.probation:
        for i, candidate in enumerate(candidates):
            if (allowed := router.probation.get(candidate.id)) is not None:
                is_curious = allowed.caution < 0.0 and not routing.caution
                caution_M[i] = (
                    allowed.caution if is_curious else max(routing.caution, allowed.caution)
                )
                cap_M[i] = allowed.cap
    return caution_M, cap_M


def choose_without_router(
    pool: Pool,
    shape: QueryShape,
    *,
    routing: Routing,
    decision_id: str,
    preferred: str | None = None,
    pinned: bool = False,
) -> Decision:
    """Decide by the mask alone: a pinned request, or a router that is missing or failed.

    Takes ``preferred`` where it is available; else, unless the request pinned it, the dearest
    available candidate, which is what a team without a router would call.

    Raises:
        NoCandidateError: If no candidate may serve, or the pinned one may not.
    """
    candidate_ids = tuple(candidate.id for candidate in pool.candidates)
    refusals = tuple(refuse(s, shape, routing, None) for s in pool.standings)
    available = [s.candidate for s, r in zip(pool.standings, refusals, strict=True) if r is None]
    if pinned:
        available = [candidate for candidate in available if candidate.id == preferred]
    if not available:
        raise NoCandidateError(reasons(candidate_ids, refusals))
    choice = next((c for c in available if c.id == preferred), None) or max(
        available, key=lambda c: c.price.cost_usd(1.0, 1.0)
    )
    return Decision(
        decision_id=decision_id,
        router_version="",
        feature_schema_hash="",
        candidate_ids=candidate_ids,
        refusals=refusals,
        choice=choice.id,
        policy=Policy.PINNED if pinned else Policy.FALLBACK,
    )


def _floats(values_M: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(value) for value in values_M)
