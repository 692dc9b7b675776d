"""What a candidate's block in the Serve config may say.

A block has two halves. ``args`` says how the model is run; changing it restarts the candidate.
``user_config`` of the deployment says how the model is routed (price, what it reads); changing it,
or the autoscaling settings, leaves the replicas running.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from router.candidate import Candidate, Price

APPLICATION_PREFIX = "candidate-"
"""The Serve application of candidate ``x`` is ``candidate-x``."""

DEPLOYMENT_NAME = "candidate"
"""Name of the one deployment inside a candidate's application."""


class PriceBlock(BaseModel):
    """Prices in USD per million tokens."""

    model_config = ConfigDict(extra="forbid")

    input_usd_per_mtok: float = Field(ge=0)
    """Prompt tokens, image tokens included."""

    output_usd_per_mtok: float = Field(ge=0)
    """Generated tokens."""


class RoutingCard(BaseModel):
    """How a candidate is routed: the deployment's ``user_config``."""

    model_config = ConfigDict(extra="forbid")

    price: PriceBlock
    """What its tokens cost."""

    modalities: list[Literal["text", "image"]] = ["text", "image"]
    """Kinds of content it reads."""

    max_images: int = Field(default=1, ge=0)
    """Most images in one query."""

    context_window: int = Field(ge=1)
    """Most tokens of prompt and reply together."""

    def candidate(self, candidate_id: str) -> Candidate:
        """Return the record that the decision works with."""
        return Candidate(
            id=candidate_id,
            price=Price(
                input_usd_per_mtok=self.price.input_usd_per_mtok,
                output_usd_per_mtok=self.price.output_usd_per_mtok,
            ),
            modalities=frozenset(self.modalities),
            max_images=self.max_images,
            context_window=self.context_window,
        )


class CandidateArgs(BaseModel):
    """How a candidate is run: the application's ``args``."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """The candidate's name; its application must be called ``candidate-<id>``."""

    kind: Literal["vllm"]
    """What runs it: ``vllm`` through Ray Serve LLM."""

    source: str
    """A folder, a hub id or a bucket that holds the weights."""

    accelerator: str = "cpu"
    """``cpu``, or Ray's accelerator type, such as ``L4`` or ``H100``."""

    engine: dict[str, Any] = {}
    """vLLM engine arguments, as ``vllm serve`` takes them."""

    env: dict[str, str] = {}
    """Environment variables of the engine's processes."""

    num_cpus: float = Field(default=0.25, gt=0)
    """CPUs that Ray reserves for the replica's own process."""

    engine_num_cpus: float = Field(default=0.5, gt=0)
    """CPUs that Ray reserves for each engine worker on a machine without an accelerator."""
