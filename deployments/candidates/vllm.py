"""A candidate on vLLM, through Ray Serve LLM. The only module that knows Ray Serve LLM."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

# Ray documents the hook, but exports its base class from nowhere else.
from ray.llm._internal.common.callbacks.base import CallbackBase
from ray.serve.llm import LLMConfig, build_llm_deployment
from ray.serve.llm.deployment import LLMServer
from ray.serve.llm.openai_api_models import ChatCompletionRequest

from deployments.candidates.block import DEPLOYMENT_NAME, CandidateArgs, RoutingCard

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ray.serve import Application

MAX_ONGOING_REQUESTS = 64
"""Requests a replica works on at once. With Serve's own default, hundreds of concurrent calls
queue in the replica instead of at the caller, where they could go elsewhere."""


class VLLMCandidate(LLMServer):
    """An ``LLMServer`` that takes OpenAI bodies as they are and yields text events.

    The caller therefore needs neither vLLM nor torch: without them the ingress's process is
    about 0.6 GB smaller.
    """

    async def complete(self, body: dict[str, Any]) -> AsyncIterator[str]:
        """Answer one chat completion.

        Args:
            body: OpenAI's request body, ``stream`` included.

        Yields:
            Server-sent events when ``body["stream"]``; else one JSON text.
        """
        try:
            request = ChatCompletionRequest(**body)
        except ValidationError as error:
            yield _refusal(error, is_stream=bool(body.get("stream")))
            return
        async for part in await self.chat(request):
            for item in part if isinstance(part, list) else [part]:
                yield item if isinstance(item, str) else item.model_dump_json()

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Check the routing card; the engine itself has no use for it."""
        RoutingCard.model_validate(user_config)


def _refusal(error: ValidationError, *, is_stream: bool) -> str:
    """Return OpenAI's error object for a body that vLLM does not accept."""
    detail = error.errors(include_url=False, include_input=False)[0]
    field = ".".join(str(part) for part in detail["loc"])
    body = {"message": f"{field}: {detail['msg']}", "param": field, "code": 400}
    text = json.dumps({"error": body | {"type": "invalid_request_error"}})
    return f"data: {text}\n\n" if is_stream else text


class LocalSource(CallbackBase):
    """Skips the download step where the weights are a folder of this machine.

    That step imports vLLM in one more process, only to find that there is nothing to fetch: 20 s
    of a core for each replica.
    """

    def on_before_node_init(self) -> None:
        """Switch the step off."""
        self.ctx.run_init_node = False


def build_vllm_candidate(args: CandidateArgs) -> Application:
    """Return the Serve application that runs ``args.source`` on vLLM."""
    return build_llm_deployment(
        llm_config(args),
        deployment_cls=VLLMCandidate,
        override_serve_options={"name": DEPLOYMENT_NAME},
    )


def llm_config(args: CandidateArgs) -> LLMConfig:
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
