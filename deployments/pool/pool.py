"""Step 4, seen live: read the pool from Serve's public status, off the request path.

Serve's REST status (``GET /api/serve/applications/``) tells both what each candidate's block says
and what its replicas do, so there is no second list of candidates to keep in step.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from math import inf
from typing import TYPE_CHECKING, Any

import httpx
from pydantic import ValidationError

from deployments.candidates.block import APPLICATION_PREFIX, DEPLOYMENT_NAME, RoutingCard
from deployments.pool.ejection import Ejection
from deployments.pool.load import LoadMeter
from deployments.pool.replicas import num_serving, states
from deployments.pool.starts import StartTimes
from router.capacity import is_full
from router.errors import InvalidInputError
from router.records import Capacity, Pool, Refusal, Standing

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from deployments.pool.router_watch import RouterWatch

logger = logging.getLogger("pointsman.pool")

START_S = {"openai": 10.0}
LOADING_S = 120.0
"""Expected seconds of a start until one was seen, by kind; of a kind that loads a model."""


_FULL = Refusal.SATURATED
_UNHURRIED = frozenset({Refusal.EJECTED, Refusal.SATURATED})
_WAITING = frozenset({Refusal.COLD, Refusal.STARTING})


def read_pool(details: dict[str, Any], *, seen_at_s: float) -> tuple[Pool, dict[str, str]]:
    """Read Serve's status.

    Args:
        details: The JSON body of ``GET /api/serve/applications/``.
        seen_at_s: When it was fetched, on the monotonic clock.

    Returns:
        The pool, and by candidate why a block was left out of it.
    """
    standings: list[Standing] = []
    faults: dict[str, str] = {}
    for name, application in details.get("applications", {}).items():
        if not name.startswith(APPLICATION_PREFIX):
            continue
        candidate_id = name.removeprefix(APPLICATION_PREFIX)
        try:
            card = RoutingCard.model_validate(_user_config(application))
            candidate = card.candidate(candidate_id)
        except (ValidationError, InvalidInputError) as error:
            faults[candidate_id] = str(error)
            continue
        refusal, num_running = _replica_state(application)
        if card.draining:
            refusal = Refusal.DRAINING
        capacity = _capacity(application, card)
        if refusal is Refusal.COLD and capacity.max_replicas is None:
            capacity = capacity._replace(start_s=None)  # nothing starts one by demand
        standings.append(
            Standing(
                candidate=candidate, refusal=refusal, num_running=num_running, capacity=capacity
            )
        )
    return Pool(standings=tuple(standings), seen_at_s=seen_at_s), faults


def _user_config(application: dict[str, Any]) -> dict[str, Any]:
    config = application.get("deployed_app_config") or {}
    for deployment in config.get("deployments") or []:
        if deployment.get("name") == DEPLOYMENT_NAME:
            return deployment.get("user_config") or {}
    return {}


def _capacity(application: dict[str, Any], card: RoutingCard) -> Capacity:
    """Return how much one replica takes, and how many there may be; what is not told is None."""
    deployment = (application.get("deployments") or {}).get(DEPLOYMENT_NAME) or {}
    config = deployment.get("deployment_config") or {}
    scaling = config.get("autoscaling_config") or {}
    args = (application.get("deployed_app_config") or {}).get("args") or {}
    max_ongoing = config.get("max_ongoing_requests")
    limits = [(args.get("engine") or {}).get("max_num_seqs"), max_ongoing]
    return Capacity(
        num_slots=card.slots or min((int(n) for n in limits if n), default=None),
        max_ongoing=max_ongoing,
        start_s=card.start_s or START_S.get(args.get("kind", ""), LOADING_S),
        max_replicas=scaling.get("max_replicas"),
        target_ongoing=float(scaling.get("target_ongoing_requests") or 1.0),
    )


def replica_states(details: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Return the state of each candidate's replicas, by candidate and replica."""
    return {
        name.removeprefix(APPLICATION_PREFIX): {
            replica["replica_id"]: replica["state"]
            for replica in deployment.get("replicas") or []
            if "replica_id" in replica
        }
        for name, application in details.get("applications", {}).items()
        if name.startswith(APPLICATION_PREFIX)
        and (deployment := (application.get("deployments") or {}).get(DEPLOYMENT_NAME))
    }


def _replica_state(application: dict[str, Any]) -> tuple[Refusal | None, int]:
    """Return why a candidate's replicas cannot serve, if so, and how many run."""
    deployment = (application.get("deployments") or {}).get(DEPLOYMENT_NAME)
    if deployment is None:
        return (
            Refusal.STARTING if application.get("status") == "DEPLOYING" else Refusal.NO_REPLICA
        ), 0
    num_running = num_serving(deployment)
    if application.get("status") == "DELETING":
        return Refusal.DRAINING, num_running
    if deployment.get("target_num_replicas", 1) == 0:
        return (Refusal.DRAINING if deployment.get("replicas") else Refusal.COLD), num_running
    if num_running:
        return None, num_running
    # Between zero and the first replica there is a moment with neither.
    is_upscaling = deployment.get("status") == "UPSCALING"
    if is_upscaling or not {"STARTING", "UPDATING"}.isdisjoint(states(deployment)):
        return Refusal.STARTING, 0
    return Refusal.NO_REPLICA, 0


def _refused(pool: Pool, candidate_ids: Collection[str], refusal: Refusal) -> Pool:
    """Return the pool in which some that could serve are refused; itself where there are none."""
    if not candidate_ids:
        return pool
    standings = (
        dataclasses.replace(standing, refusal=refusal)
        if standing.refusal is None and standing.candidate.id in candidate_ids
        else standing
        for standing in pool.standings
    )
    return dataclasses.replace(pool, standings=tuple(standings))


def is_start(pool: Pool, candidate_id: str) -> bool:
    """Return whether a candidate may serve though no replica of it runs yet; see `startable`."""
    standing = pool.standing(candidate_id)
    return standing is not None and standing.refusal is None and not standing.num_running


def describe(pool: Pool) -> dict[str, dict[str, Any]]:
    """Return what ``/readyz`` tells of the candidates and of their replicas."""
    return {
        "candidates": {
            s.candidate.id: s.refusal.value if s.refusal else "available" for s in pool.standings
        },
        "capacity": {s.candidate.id: _describe(s) for s in pool.standings},
    }


def _describe(standing: Standing) -> dict[str, Any]:
    capacity = standing.capacity
    known: dict[str, Any] = {
        "replicas": standing.num_running,
        "max_replicas": capacity.max_replicas,
        "slots": capacity.num_slots,
        "in_flight": capacity.num_in_flight,
    }
    if not standing.num_running:
        known["start_s"] = capacity.start_s
    return known


def _start_s(standing: Standing) -> float:
    return inf if standing.capacity.start_s is None else standing.capacity.start_s


class PoolWatcher:
    """Keeps the latest pool, polled in the background.

    A failed poll keeps the last pool and lets its age grow: a stale view degrades the choice, it
    never stalls a request.

    Args:
        serve_api: Base URL of Ray's dashboard, such as ``http://127.0.0.1:8265``.
        period_s: Seconds between polls.
        ejection: Tells who is ejected; nobody when None.
        load: Tells what is under way; nothing when None.
        router: Is shown the same status.
    """

    def __init__(
        self,
        serve_api: str,
        *,
        period_s: float = 1.0,
        ejection: Ejection | None = None,
        load: LoadMeter | None = None,
        router: RouterWatch | None = None,
    ) -> None:
        """Start with an empty pool."""
        self._router = router
        self._ejection = ejection or Ejection()
        self._load = load or LoadMeter()
        self._starts = StartTimes()
        self._client = httpx.AsyncClient(base_url=serve_api, timeout=5.0, trust_env=False)
        self._period_s = period_s
        self._seen = Pool()
        self._busy_until_s: dict[str, float] = {}
        self.num_failures = 0
        self._faults: dict[str, str] = {}

    @property
    def pool(self) -> Pool:
        """The latest pool, as far as is known by now: who is full, and who is ejected."""
        pool = self.unejected
        pool = _refused(pool, {s.candidate.id for s in pool.standings if is_full(s)}, _FULL)
        serving = [s.candidate.id for s in pool.standings if s.refusal is None]
        return _refused(pool, self._ejection.ejected(serving, time.monotonic()), Refusal.EJECTED)

    @property
    def unejected(self) -> Pool:
        """The same for whoever would be left with nobody else: ejected and full ones may serve."""
        now_s = time.monotonic()
        busy = {name for name, until_s in self._busy_until_s.items() if until_s > now_s}
        return _refused(self._loaded(now_s), busy, _FULL)

    def last_resorts(
        self, left_s: Callable[[], float]
    ) -> tuple[tuple[frozenset[Refusal], Callable[[], Pool]], ...]:
        """Return what to try in turn where nobody is left: whose refusals it lifts, and the pool.

        Args:
            left_s: Returns the seconds until the first byte must be there.
        """
        return (_UNHURRIED, lambda: self.unejected), (_WAITING, lambda: self.startable(left_s()))

    def startable(self, within_s: float) -> Pool:
        """Return `unejected` with those who are expected to have a replica in so many seconds."""
        pool = self.unejected
        standings = (
            dataclasses.replace(standing, refusal=None)
            if standing.refusal in _WAITING and _start_s(standing) <= within_s
            else standing
            for standing in pool.standings
        )
        return dataclasses.replace(pool, standings=tuple(standings))

    def _loaded(self, now_s: float) -> Pool:
        """Return the pool with what is under way now; itself where that is nothing."""
        standings = tuple(self._with_load(s, now_s) for s in self._seen.standings)
        if all(new is old for new, old in zip(standings, self._seen.standings, strict=True)):
            return self._seen
        return dataclasses.replace(self._seen, standings=standings)

    def _with_load(self, standing: Standing, now_s: float) -> Standing:
        name = standing.candidate.id
        num_in_flight = self._load.num_in_flight(name)
        slow_start_s = self._load.slow_start_s(name, now_s)
        if not num_in_flight and not slow_start_s:
            return standing
        capacity = standing.capacity._replace(
            num_in_flight=num_in_flight, slow_start_s=slow_start_s
        )
        return dataclasses.replace(standing, capacity=capacity)

    def is_panic(self) -> bool:
        """Return whether so many candidates are bad that nobody is ejected."""
        serving = [s.candidate.id for s in self.unejected.standings if s.refusal is None]
        return self._ejection.is_panic(serving, time.monotonic())

    def note_busy(self, candidate_id: str, for_s: float) -> None:
        """Take a candidate for saturated for so many seconds from now."""
        until_s = time.monotonic() + for_s
        self._busy_until_s[candidate_id] = max(until_s, self._busy_until_s.get(candidate_id, 0.0))

    def age_s(self) -> float:
        """Return how old the pool is, in seconds."""
        return time.monotonic() - self._seen.seen_at_s

    async def refresh(self) -> None:
        """Fetch Serve's status once."""
        try:
            response = await self._client.get("/api/serve/applications/")
            response.raise_for_status()
            details, now_s = response.json(), time.monotonic()
            if not details["applications"]:
                # This process is a part of one: the controller is away.
                raise ValueError("Serve tells of no application")  # noqa: TRY301 - a failed poll like any other
            pool, faults = read_pool(details, seen_at_s=now_s)
            self._starts.look(replica_states(details), now_s)
            if self._router is not None:
                self._router.look(details, now_s)
        # The last two: JSON of another shape, which must not end the watch.
        except (httpx.HTTPError, ValueError, LookupError, AttributeError, TypeError) as error:
            self.num_failures += 1
            logger.warning("the pool is %.1f s old: %s", self.age_s(), error)
            return
        for candidate_id, fault in faults.items():
            if self._faults.get(candidate_id) != fault:
                logger.error("candidate %s is left out of the pool: %s", candidate_id, fault)
        self._seen, self._faults = self._starts.expected(pool, now_s), faults

    async def run(self) -> None:
        """Refresh forever. Cancel the task to stop."""
        while True:
            await self.refresh()
            await asyncio.sleep(self._period_s)
