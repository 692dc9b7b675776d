"""Steps 2 to 5, served: features, scores, mask and choice.

The decision itself is ``router.route``; this shell holds the encoders and the version that serves.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

from ray import serve

from deployments.budget_slot import BudgetSlot
from deployments.candidates.block import HEALTH_CHECK_PERIOD_S
from deployments.metrics import DecisionMetrics
from deployments.versions.hot_swap import HotSwap
from deployments.versions.registry import Registry
from deployments.versions.shadow import Shadow
from router.cold_start import explore_cold
from router.errors import PointsmanError
from router.exploration import Exploration, Regret
from router.features.extract import FeatureExtractor
from router.probation import Terms
from router.route import route

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from deployments.question import Question
    from deployments.settings import RouterSettings
    from router.records import Decision, Pool, QueryShape, Routing

MAX_ONGOING_REQUESTS = 128
"""More than this many concurrent decisions queue in the ingress, which can fall back instead."""


NO_VERSION = "no router version is registered under the serving alias"


class NoRouterError(PointsmanError):
    """No router version serves yet; the default candidate should answer."""


class RouterDeployment:
    """Decides which candidate should answer. Stateless but for caches and the served version."""

    def __init__(self, settings: RouterSettings) -> None:
        """Load encoders and champion; ready only when a decision can be made at full speed."""
        import torch  # noqa: PLC0415 - only this process needs it

        # A second OpenMP thread on a busy machine took p99 from 4 to 335 ms.
        torch.set_num_threads(1)
        self._extractor = FeatureExtractor.load(settings.encoders)
        self._extractor.extract("warm up", ())
        # One thread per encoder call; more would fight over the cores that the engines need.
        self._encoding = ThreadPoolExecutor(max_workers=2, thread_name_prefix="encode")
        # The encoders of one question run beside each other: 6 ms instead of 12 for a zoo picture.
        self._extracting = ThreadPoolExecutor(max_workers=2, thread_name_prefix="extract")
        registry = Registry(
            settings.registry_uri,
            model=settings.registry_model,
            alias=settings.registry_alias,
            cache=settings.router_versions,
        )
        self._metrics = DecisionMetrics()
        self._shadow = Shadow(self._metrics, max_load=settings.shadow_load or 1.0)
        self._draw = settings.explore_draw
        self._default_candidate = settings.default_candidate
        self._budget = BudgetSlot(
            settings.explore_state,
            Regret(_limit(settings.explore_daily_usd), _limit(settings.explore_daily_quality)),
            num_slots=settings.num_router_replicas,
        )
        self._swap = HotSwap(
            registry,
            self._extractor.schema,
            terms=Terms(base_share=settings.probation_share, caution=settings.probation_caution),
            has_shadow=settings.shadow_load > 0,
            metrics=self._metrics,
        )
        self._watch = asyncio.get_event_loop().create_task(
            self._swap.follow(period_s=settings.registry_poll_s)
        )

    async def decide(
        self,
        question: Question,
        shape: QueryShape,
        *,
        pool: Pool,
        routing: Routing,
        decision_id: str,
        seed: int,
    ) -> Decision:
        """Return the decision for one query; see ``router.route.route``.

        Before the first version serves, requests that may explore are drawn without one.

        Raises:
            NoRouterError: If no router version serves yet.
            NoCandidateError: If every candidate is masked.
        """
        self._swap.note_pool(pool)
        schema_hash, features_F = await self.features(question)
        # Nothing is awaited between the look at the budget and the charge.
        router, now = self._swap.router, datetime.now(UTC)
        left = self._budget.left(now) if routing.explore_share else Regret()
        asked: dict[str, Any] = {
            "features_F": features_F,
            "shape": shape,
            "pool": pool,
            "routing": routing,
            "decision_id": decision_id,
            "seed": seed,
        }
        if router is None:
            decision = explore_cold(
                feature_schema_hash=schema_hash,
                left=left,
                preferred=self._default_candidate,
                **asked,
            )
        else:
            exploration = Exploration(draw=self._draw, left=left)
            is_killed = self._swap.is_killed
            decision = route(router, exploration=exploration, best_single=is_killed, **asked)
        if decision is None:
            raise NoRouterError(NO_VERSION)
        if routing.explore_share:
            self._charge(decision, now)
        return self._shadow.look(
            self._swap.challenger, decision, features_F, shape, pool=pool, routing=routing
        )

    def _charge(self, decision: Decision, now: datetime) -> None:
        regret = Regret(decision.regret_usd, decision.regret_quality)
        self._budget.charge(regret, now)
        self._metrics.explored(regret, self._budget.left(now))

    async def features(self, question: Question) -> tuple[str, NDArray[np.float32]]:
        """Return the hash of the feature schema and the question's features, shape (F,)."""
        extract = partial(self._extractor.extract, run=self._encoding.map)
        features_F = await asyncio.get_running_loop().run_in_executor(
            self._extracting, extract, question.text, question.pictures
        )
        return self._extractor.schema.hash, features_F

    async def status(self) -> dict[str, Any]:
        """Return which version serves, by which features, and how experiments stand."""
        router = self._swap.router
        return {
            "router_version": router.version if router else None,
            "feature_schema_hash": self._extractor.schema.hash,
            "refused_version": self._swap.refused_version,
            "kill_switch": self._swap.is_killed,
            "stages": {name: stage.value for name, stage in self._swap.stages().items()},
            "caps": {n: one.cap for n, one in router.probation.items()} if router else {},
            "exploration": self._budget.status(datetime.now(UTC)),
            "shadow": self._shadow.status(),
        }

    async def label_requests(self) -> list[str]:
        """Return decisions whose labels would tell champion and challenger apart."""
        return self._shadow.label_requests()


def _limit(daily: float | None) -> float:
    return inf if daily is None else daily


def router_application(settings: RouterSettings) -> serve.Application:
    """Bind the router deployment."""
    return serve.deployment(
        RouterDeployment,
        name="router",
        num_replicas=settings.num_router_replicas,
        max_ongoing_requests=MAX_ONGOING_REQUESTS,
        health_check_period_s=HEALTH_CHECK_PERIOD_S,
        ray_actor_options={"num_cpus": 0.5},
    ).bind(settings)
