"""Ray Serve LLM's own OpenAI ingress in front of the candidates' running replicas.

It is what calling a candidate without Pointsman costs: the same engines, one ingress of Ray's.
"""

from __future__ import annotations

from ray import serve
from ray.llm._internal.serve.core.configs.openai_api_models import ModelCard
from ray.llm._internal.serve.core.ingress.ingress import OpenAiIngress, make_fastapi_ingress

from deployments.candidates.block import DEPLOYMENT_NAME

NAME = "direct"
ROUTE_PREFIX = "/direct"


def build(args: dict[str, list[str]]) -> serve.Application:
    """Return the application; ``args["candidate_ids"]`` says whose replicas it calls."""
    names = args["candidate_ids"]
    deployment = serve.deployment(
        make_fastapi_ingress(OpenAiIngress),
        name="direct",
        num_replicas=1,
        max_ongoing_requests=512,
        ray_actor_options={"num_cpus": 0.1},
    )
    application: serve.Application = deployment.bind(
        llm_deployments={
            name: serve.get_deployment_handle(DEPLOYMENT_NAME, f"candidate-{name}")
            for name in names
        },
        model_cards={
            name: ModelCard(
                id=name, object="model", owned_by="zoo", permission=[], metadata={"engine": "vllm"}
            )
            for name in names
        },
    )
    return application
