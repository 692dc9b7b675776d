"""Step 4, seen live: read the pool from Serve's public status, off the request path.

Serve's REST status (``GET /api/serve/applications/``) tells both what each candidate's block says
and what its replicas do, so there is no second list of candidates to keep in step.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from typing import TYPE_CHECKING, Any

import httpx
from pydantic import ValidationError

from deployments.candidates.block import APPLICATION_PREFIX, DEPLOYMENT_NAME, RoutingCard
from deployments.ejection import Ejection
from router.errors import InvalidInputError
from router.records import Pool, Refusal, Standing

if TYPE_CHECKING:
    from collections.abc import Collection

logger = logging.getLogger("pointsman.pool")


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
        standings.append(Standing(candidate=candidate, refusal=refusal, num_running=num_running))
    return Pool(standings=tuple(standings), seen_at_s=seen_at_s), faults


def _user_config(application: dict[str, Any]) -> dict[str, Any]:
    config = application.get("deployed_app_config") or {}
    for deployment in config.get("deployments") or []:
        if deployment.get("name") == DEPLOYMENT_NAME:
            return deployment.get("user_config") or {}
    return {}


def _replica_state(application: dict[str, Any]) -> tuple[Refusal | None, int]:
    """Return why a candidate's replicas cannot serve, if so, and how many run."""
    deployment = (application.get("deployments") or {}).get(DEPLOYMENT_NAME)
    if deployment is None:
        return (
            Refusal.STARTING if application.get("status") == "DEPLOYING" else Refusal.NO_REPLICA
        ), 0
    states = [replica.get("state") for replica in deployment.get("replicas") or []]
    num_running = states.count("RUNNING")
    if application.get("status") == "DELETING":
        return Refusal.DRAINING, num_running
    if deployment.get("target_num_replicas", 1) == 0:
        return (Refusal.DRAINING if states else Refusal.COLD), num_running
    if num_running:
        return None, num_running
    if "STARTING" in states or "UPDATING" in states:
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


class PoolWatcher:
    """Keeps the latest pool, polled in the background.

    A failed poll keeps the last pool and lets its age grow: a stale view degrades the choice, it
    never stalls a request.

    Args:
        serve_api: Base URL of Ray's dashboard, such as ``http://127.0.0.1:8265``.
        period_s: Seconds between polls.
        ejection: Tells who is ejected; nobody when None.
    """

    def __init__(
        self, serve_api: str, *, period_s: float = 1.0, ejection: Ejection | None = None
    ) -> None:
        """Start with an empty pool."""
        self._ejection = ejection or Ejection()
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
        serving = [s.candidate.id for s in pool.standings if s.refusal is None]
        return _refused(pool, self._ejection.ejected(serving, time.monotonic()), Refusal.EJECTED)

    @property
    def unejected(self) -> Pool:
        """The same without ejections: for whoever would be left with nobody else."""
        now_s = time.monotonic()
        busy = {name for name, until_s in self._busy_until_s.items() if until_s > now_s}
        return _refused(self._seen, busy, Refusal.SATURATED)

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
            pool, faults = read_pool(response.json(), seen_at_s=time.monotonic())
        # The last two: JSON of another shape, which must not end the watch.
        except (httpx.HTTPError, ValueError, AttributeError, TypeError) as error:
            self.num_failures += 1
            logger.warning("the pool is %.1f s old: %s", self.age_s(), error)
            return
        for candidate_id, fault in faults.items():
            if self._faults.get(candidate_id) != fault:
                logger.error("candidate %s is left out of the pool: %s", candidate_id, fault)
        self._seen, self._faults = pool, faults

    async def run(self) -> None:
        """Refresh forever. Cancel the task to stop."""
        while True:
            await self.refresh()
            await asyncio.sleep(self._period_s)
