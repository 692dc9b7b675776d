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


class DirectIngress(OpenAiIngress):
    """Ray's ingress, with handles to deployments of other applications.

    Args:
        candidate_ids: Whose replicas it calls.
    """

    def __init__(self, candidate_ids: list[str]) -> None:
        """Open the handles."""
        super().__init__(
            {
                name: serve.get_deployment_handle(DEPLOYMENT_NAME, f"candidate-{name}")
                for name in candidate_ids
            },
            {name: ModelCard(id=name, object="model", owned_by="zoo") for name in candidate_ids},
        )


def build(args: dict[str, list[str]]) -> serve.Application:
    """Return the application; ``args["candidate_ids"]`` says whose replicas it calls."""
    deployment = serve.deployment(
        make_fastapi_ingress(DirectIngress),
        name="direct",
        num_replicas=1,
        max_ongoing_requests=512,
        ray_actor_options={"num_cpus": 0.1},
    )
    application: serve.Application = deployment.bind(args["candidate_ids"])
    return application
