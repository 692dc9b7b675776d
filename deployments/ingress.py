"""Step 1, request: OpenAI's HTTP protocol, from a request to its answer.

A request goes door ──> media ──> decision ──> dispatch ──> reply, and leaves an outcome row. If
the router fails or has no version yet, the default candidate answers, and the failure is counted.
"""

from __future__ import annotations

import asyncio
import logging
import time
from math import inf
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from ray import serve

from deployments import console
from deployments.admission import Admission
from deployments.attempts import AllFailedError
from deployments.decider import Decider
from deployments.dispatching.dispatch import Dispatcher
from deployments.dispatching.race import RaceEvent
from deployments.dispatching.relay import Relay
from deployments.dispatching.replies import EventStream, error_response, not_found, status_of
from deployments.dispatching.retry_budget import RetryBudget, RetryRules
from deployments.door import Door
from deployments.exchange import Exchange
from deployments.media import MediaFetcher, MediaLimits
from deployments.metrics import LogMetrics, RequestMetrics
from deployments.pool.ejection import Ejection, EjectionRules
from deployments.pool.load import LoadMeter
from deployments.pool.pool import PoolWatcher, describe, is_start
from deployments.pool.router_watch import RouterWatch
from deployments.protocol import (
    annotate,
    models_list,
    parse_chat_request,
    parse_limit,
    response_headers,
)
from deployments.recording.labels import parse_labels
from deployments.recording.outcomes import OutcomeRecorder
from deployments.waking.waker import Waker
from monitoring.outcome import Status
from router.errors import PointsmanError, UnknownModelError
from router.records import Routing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import numpy as np
    from numpy.typing import NDArray
    from ray.serve.handle import DeploymentHandle

    from deployments.dispatching.dispatch import Answer
    from deployments.door import Visit
    from deployments.question import Question
    from deployments.settings import RouterSettings

logger = logging.getLogger("pointsman.ingress")
http = FastAPI(title="Pointsman", docs_url="/docs", redoc_url=None)

MAX_ONGOING_REQUESTS = 512
"""Requests in one ingress replica; more wait in the proxy."""


@serve.ingress(http)
class Ingress:
    """Answers HTTP. Holds no state that a restart would miss but the last seconds of outcomes."""

    def __init__(self, settings: RouterSettings, router: DeploymentHandle) -> None:
        """Start watching the pool."""
        self._settings = settings
        self._router = router
        self._created = int(time.time())  # noqa: TID251 - the models' creation date
        self._media = MediaFetcher(
            MediaLimits(
                allow_http=settings.allow_http_images,
                allow_private_hosts=settings.private_image_hosts,
            )
        )
        self._metrics = RequestMetrics()
        self._guard(settings)
        self._recorder = OutcomeRecorder(
            settings.outcome_log,
            flush_s=settings.outcome_flush_s,
            features=self._features,
            features_share=settings.pinned_features_share,
            spool=settings.outcome_log_spool,
            max_spool_bytes=settings.outcome_log_spool_bytes,
            on_counts=LogMetrics().show,
        )
        loop = asyncio.get_event_loop()
        parts = (self._watcher, self._recorder, self._waker)
        self._tasks = [loop.create_task(part.run()) for part in parts]

    def _guard(self, settings: RouterSettings) -> None:
        """Set up what bounds the load and keeps away from candidates that fail."""
        ejection = Ejection(
            EjectionRules(
                num_in_a_row=settings.eject_after_failures,
                base_s=settings.eject_s,
                max_share=settings.eject_max_share,
            )
        )
        load = LoadMeter(settings.num_ingress_replicas)
        router_watch = RouterWatch(serve.get_replica_context().app_name)
        self._watcher = PoolWatcher(
            settings.serve_api,
            period_s=settings.pool_poll_s,
            ejection=ejection,
            load=load,
            router=router_watch,
        )
        self._waker = Waker(self._watcher, settings)
        self._decider = Decider(
            self._router,
            settings,
            router_watch=router_watch,
            watcher=self._watcher,
            waker=self._waker,
            metrics=self._metrics,
        )
        rules = RetryRules(share=settings.retry_share, min_per_s=settings.retry_min_per_s)
        self._retries = RetryBudget(rules, time.monotonic())
        self._dispatcher = Dispatcher(
            lambda: self._watcher.pool,
            on_busy=self._watcher.note_busy,
            ejection=ejection,
            budget=self._retries,
            hedge_after_s=settings.hedge_after_s,
            fair_wait_s=settings.deadline_s / 4,
            load=load,
            on_event=self._metrics.dispatched,
        )
        self._door = Door(
            Admission(settings.max_in_flight, settings.max_in_flight_per_key),
            api_key_header=settings.api_key_header,
        )

    @http.post("/v1/chat/completions")
    async def chat(self, request: Request) -> Response:
        """Answer a chat completion, plain or streamed."""
        return await self._within_the_door(request, self._chat)

    async def _within_the_door(
        self, request: Request, answer: Callable[[Exchange, Visit], Awaitable[Response]]
    ) -> Response:
        """Answer a request that found a place, and give the place back in the end."""
        arrived_s, visit = time.monotonic(), None
        try:
            visit = self._door.enter(request.headers)
            exchange = await self._open(await request.body(), arrived_s, visit)
            response = await answer(exchange, visit)
        except (PointsmanError, ValueError) as error:
            self._metrics.refused(error)
            response = error_response(error)
        except BaseException:
            if visit is not None:
                visit.leave()
            raise
        if visit is not None and not isinstance(response, EventStream):
            visit.leave()
        return response

    async def _chat(self, exchange: Exchange, visit: Visit) -> Response:
        try:
            answer = await self._answer(exchange)
        except (PointsmanError, ValueError) as error:
            self._close(exchange, status_of(error))
            return error_response(error)
        except asyncio.CancelledError:
            self._close(exchange, Status.CANCELLED)
            raise
        self._decider.note_answer(exchange.session, answer.candidate_id)
        headers = response_headers(exchange.receipt())
        if exchange.call.stream:
            relay = Relay(exchange, answer, stall_s=self._settings.stall_s)

            def end() -> None:
                self._settle(exchange, answer, relay.usage, relay.status)
                visit.leave()

            return EventStream(relay.events(), on_end=end, headers=headers)
        completion = await anext(answer.events)
        self._settle(exchange, answer, completion.get("usage"))
        return JSONResponse(annotate(completion, exchange.receipt()), headers=headers)

    @http.post("/v1/route")
    async def route(self, request: Request) -> Response:
        """Return the decision that a chat completion would get, without the call."""

        async def describe_decision(exchange: Exchange, _: Visit) -> Response:
            described = self._recorder.describe(await self._decider.decide(exchange))
            return JSONResponse(described | {"pool_age_s": exchange.pool_age_s})

        return await self._within_the_door(request, describe_decision)

    @http.get("/v1/decisions")
    async def decisions(self, request: Request) -> Response:
        """Return the receipts of this replica's latest requests, the last first."""
        try:
            limit = parse_limit(request.query_params.get("limit"))
        except PointsmanError as error:
            return error_response(error)
        rows = self._recorder.latest(limit)
        return Response(b'{"object":"list","data":%s}' % rows, media_type="application/json")

    @http.get("/v1/decisions/{decision_id}")
    async def decision(self, decision_id: str) -> Response:
        """Return the receipt of a past request."""
        row = await asyncio.to_thread(self._recorder.find, decision_id)
        if row is None:
            return not_found("decision_id", decision_id)
        return JSONResponse(row)

    @http.post("/v1/outcomes")
    async def outcomes(self, request: Request) -> Response:
        """Take labels: quality scores of past answers."""
        try:
            labels = parse_labels(
                await request.body(), metric_weights=self._settings.label_metric_weights
            )
        except PointsmanError as error:
            return error_response(error)
        for label in labels:
            if not await asyncio.to_thread(self._recorder.knows, label.decision_id):
                return not_found("decision_id", label.decision_id)
        try:
            await self._recorder.add_labels(labels)
        except (OSError, PointsmanError) as error:
            logger.exception("labels are refused")
            return error_response(error)
        return JSONResponse({"accepted": len(labels)})

    @http.get("/v1/models")
    async def models(self) -> Response:
        """List ``auto`` and the pool."""
        return JSONResponse(models_list(self._watcher.pool.candidates, self._created))

    @http.get("/console")
    @http.get("/console/{name}")
    async def console(self, name: str = "") -> Response:
        """Return the operator's page and what it loads."""
        return console.page(name)

    @http.get("/healthz")
    async def healthz(self) -> Response:
        """Tell that the process answers."""
        return JSONResponse({"status": "ok"})

    @http.get("/readyz")
    async def readyz(self) -> Response:
        """Tell whether a question can be answered now."""
        pool, router = self._watcher.pool, await self._router_status()
        is_ready = any(s.refusal is None for s in pool.standings) and "error" not in router
        body = {
            "ready": is_ready,
            "pool_age_s": round(self._watcher.age_s(), 3),
            **describe(pool),
            "wanted_in_vain": self._waker.status(),
            "ejection_panic": self._watcher.is_panic(),
            "in_flight": self._door.num_in_flight,
            "retries_left": round(self._retries.balance(time.monotonic()), 1),
            "router": router,
            "outcomes": self._recorder.counts(),
        }
        return JSONResponse(body, status_code=200 if is_ready else 503)

    async def _open(self, body: bytes, arrived_s: float, visit: Visit) -> Exchange:
        """Read a request and fetch its images."""
        call = parse_chat_request(body)
        visit.check(call.routing.priority)
        # Whoever pins a candidate wants it, or its own error.
        pool = self._watcher.unejected if call.is_pinned else self._watcher.pool
        if call.is_pinned and pool.standing(call.model) is None:
            raise UnknownModelError(call.model)
        settings = self._settings
        defaults = Routing(
            cost_weight=settings.cost_weight,
            latency_weight=settings.latency_weight,
            explore_share=settings.explore_share,
        )
        exchange = Exchange(
            call=call,
            routing=call.routing.resolve(defaults),
            pool=pool,
            arrived_s=arrived_s,
            deadline_s=arrived_s + min(call.routing.deadline_s or inf, settings.deadline_s),
            session=visit.session(call.routing.session),
        )
        fetch = self._media.fetch_encoded if call.is_pinned else self._media.fetch_all
        exchange.pictures = await fetch(call.image_refs)
        exchange.timing.media_s = exchange.elapsed_s()
        return exchange

    async def _answer(self, exchange: Exchange) -> Answer:
        """Decide and dispatch; once more where all whom the request asked died under it."""
        exchange.decision = await self._decider.decide(exchange)
        try:
            return await self._dispatch(exchange)
        except AllFailedError as error:
            decision = None
            if not exchange.call.is_pinned:
                decision = await self._decider.decide_again(exchange, error.lost)
            if decision is None:
                raise
            self._metrics.dispatched(RaceEvent.DECIDED_AGAIN, decision.choice)
            exchange.decision = decision
            return await self._dispatch(exchange)

    async def _dispatch(self, exchange: Exchange) -> Answer:
        """Return the first answer of the decision's ranking."""
        call, decision = exchange.call, exchange.decision
        if decision is None:
            raise ValueError("dispatch before a decision")
        # Whoever waits for a start is not to start others too.
        waits_for_start = call.is_pinned or is_start(exchange.pool, decision.choice)
        answer = await self._dispatcher.call(
            decision.ranking[: 1 if waits_for_start else None],
            lambda candidate_id: call.candidate_body(exchange.pictures, candidate_id),
            deadline_s=exchange.deadline_s,
            log=exchange.log,
            waits_for_start=waits_for_start,
            max_attempts=self._settings.max_attempts,
            check=exchange.decode_pictures,
        )
        exchange.note_answer(answer.candidate_id)
        return answer

    def _settle(
        self,
        exchange: Exchange,
        answer: Answer,
        usage: dict[str, Any] | None,
        status: Status = Status.OK,
    ) -> None:
        """Note usage and the last attempt, and write the outcome."""
        answer.finish(status)
        exchange.note_usage(usage)
        exchange.log.add(answer.candidate_id, answer.started_s)
        self._close(exchange, status)

    def _close(self, exchange: Exchange, status: Status) -> None:
        """Count the request and hand its outcome to the recorder."""
        self._metrics.finished(exchange, status)
        self._metrics.load(
            self._watcher.pool,
            num_in_flight=self._door.num_in_flight,
            retries_left=self._retries.balance(time.monotonic()),
        )
        if exchange.decision is not None:
            self._waker.note(exchange.decision)
            self._recorder.add_outcome(exchange, status, exchange.decision)

    async def _router_status(self) -> dict[str, Any]:
        try:
            status: dict[str, Any] = await asyncio.wait_for(self._router.status.remote(), 5.0)
        except Exception as error:  # noqa: BLE001 - told in the reply
            return {"error": f"{type(error).__name__}: {error}"[:200]}
        return status

    async def _features(self, question: Question) -> tuple[str, NDArray[np.float32]]:
        features: tuple[str, NDArray[np.float32]] = await self._router.features.remote(question)
        return features
