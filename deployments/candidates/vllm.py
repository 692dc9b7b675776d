"""A candidate on vLLM, through Ray Serve LLM. The only module that knows Ray Serve LLM."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

# Both are documented hooks whose base classes Ray exports from nowhere else.
from ray.llm._internal.common.callbacks.base import CallbackBase
from ray.llm._internal.serve.engines.vllm.vllm_engine import VLLMEngine
from ray.serve.llm import LLMConfig, build_llm_deployment
from ray.serve.llm.deployment import LLMServer
from ray.serve.llm.openai_api_models import ChatCompletionRequest

from deployments.candidates.block import (
    DEPLOYMENT_NAME,
    HEALTH_CHECK_PERIOD_S,
    RoutingCard,
    VLLMArgs,
)
from deployments.candidates.fault import engine_failure
from deployments.candidates.hold import Holdable
from deployments.candidates.warm_up import warm_up_bodies

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ray.serve import Application
    from ray.util.placement_group import PlacementGroup
    from vllm.config import VllmConfig
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.engine.protocol import EngineClient

logger = logging.getLogger("pointsman.candidate")

MAX_ONGOING_REQUESTS = 64
"""Requests a replica works on at once. With Serve's own default, hundreds of concurrent calls
queue in the replica instead of at the caller, where they could go elsewhere."""

WARM_UP_S = 120.0
"""Longest that a fresh engine may take for one question."""


class VLLMCandidate(Holdable, LLMServer):
    """An ``LLMServer`` that takes OpenAI bodies as they are and yields text events.

    The caller therefore needs neither vLLM nor torch: without them the ingress's process is
    about 0.6 GB smaller.
    """

    _is_warm = False

    async def complete(self, body: dict[str, Any]) -> AsyncIterator[str]:
        """Answer one chat completion.

        Args:
            body: OpenAI's request body, ``stream`` included.

        Yields:
            Server-sent events when ``body["stream"]``; else one JSON text. A failure is the last
            thing yielded, as OpenAI's error object.
        """
        is_stream = bool(body.get("stream"))
        try:
            request = ChatCompletionRequest(**body)
        except ValidationError as error:
            yield _refusal(error, is_stream=is_stream)
            return
        try:
            async for part in await self.chat(request):
                for item in part if isinstance(part, list) else [part]:
                    yield item if isinstance(item, str) else item.model_dump_json()
        except Exception as error:
            logger.exception("%s failed", body.get("model"))
            yield engine_failure(error, is_stream=is_stream)

    async def check_health(self) -> None:
        """Tell Serve whether the engine lives, in words that need no vLLM to be read.

        An error of vLLM's own class had Serve's controller import vLLM: for 18 s beside four
        engines on two cores it did nothing else, and weighed 0.6 GB more from then on.

        Raises:
            RuntimeError: If it does not.
        """
        try:
            await super().check_health()
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not leave as it is
            raise RuntimeError(f"{type(error).__name__}: {error}"[:300]) from None

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Check the routing card; a fresh engine answers some questions before it takes others."""
        card = RoutingCard.model_validate(user_config)
        if not self._is_warm:
            self._is_warm = True
            await self._warm_up(card)

    async def _warm_up(self, card: RoutingCard) -> None:
        """Ask what makes an engine compile; a question that it cannot answer stops no start."""
        began_s = time.monotonic()
        for body in warm_up_bodies(self._llm_config.model_id, card.modalities):
            try:
                async with asyncio.timeout(WARM_UP_S):
                    async for _ in self.complete(body):
                        pass
            except TimeoutError:
                logger.warning("the engine took more than %.0f s to warm up", WARM_UP_S)
        logger.info("warm after %.1f s", time.monotonic() - began_s)


def _refusal(error: ValidationError, *, is_stream: bool) -> str:
    """Return OpenAI's error object for a body that vLLM does not accept."""
    detail = error.errors(include_url=False, include_input=False)[0]
    field = ".".join(str(part) for part in detail["loc"])
    body = {"message": f"{field}: {detail['msg']}", "param": field, "code": 400}
    text = json.dumps({"error": body | {"type": "invalid_request_error"}})
    return f"data: {text}\n\n" if is_stream else text


class OneProcessEngine(VLLMEngine):
    """Runs the worker inside the engine's process, on machines without an accelerator.

    Ray Serve LLM asks for a worker process of its own there, since vLLM sets that one's OpenMP
    threads apart. With one thread a worker there is nothing to set apart, and a candidate starts
    with one import of vLLM less (20 s of a core) and takes 0.7 GB less.
    """

    def _start_async_llm_engine(
        self,
        vllm_engine_args: AsyncEngineArgs,
        vllm_engine_config: VllmConfig,
        placement_group: PlacementGroup,
    ) -> EngineClient:
        vllm_engine_config.parallel_config.distributed_executor_backend = "uni"
        return super()._start_async_llm_engine(
            vllm_engine_args, vllm_engine_config, placement_group
        )


class LocalSource(CallbackBase):
    """Skips the download step where the weights are a folder of this machine.

    That step imports vLLM in one more process, only to find that there is nothing to fetch: 20 s
    of a core for each replica.
    """

    def on_before_node_init(self) -> None:
        """Switch the step off."""
        self.ctx.run_init_node = False


def build_vllm_candidate(args: VLLMArgs) -> Application:
    """Return the Serve application that runs ``args.source`` on vLLM."""
    is_single_worker = args.accelerator == "cpu" and args.env.get("OMP_NUM_THREADS") == "1"
    return build_llm_deployment(
        llm_config(args),
        deployment_cls=VLLMCandidate,
        bind_kwargs={"engine_cls": OneProcessEngine} if is_single_worker else {},
        override_serve_options={"name": DEPLOYMENT_NAME},
    )


def llm_config(args: VLLMArgs) -> LLMConfig:
    """Translate a candidate's block into Ray Serve LLM's configuration.

    Raises:
        ValueError: If vLLM does not know an engine argument.
    """
    settings: dict[str, Any] = {
        "model_loading_config": {"model_id": args.id, "model_source": args.source},
        "engine_kwargs": args.engine,
        "runtime_env": {"env_vars": args.env},
        "log_engine_metrics": False,
        "deployment_config": {
            "max_ongoing_requests": MAX_ONGOING_REQUESTS,
            "health_check_period_s": HEALTH_CHECK_PERIOD_S,
            "ray_actor_options": {"num_cpus": args.num_cpus},
        },
    }
    if Path(args.source).is_dir():
        settings["callback_config"] = {"callback_class": LocalSource}
    if args.accelerator == "cpu":
        settings["accelerator_config"] = {"kind": "cpu"}
        settings["placement_group_config"] = {
            "bundles": [{"CPU": args.engine_num_cpus}],
            "strategy": "PACK",
        }
    else:
        settings["accelerator_type"] = args.accelerator
    return LLMConfig(**settings)
