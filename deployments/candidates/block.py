"""What a candidate's block in the Serve config may say.

A block has two halves. ``args`` says how the model is run; changing it restarts the candidate.
``user_config`` of the deployment says how the model is routed (price, what it reads); changing it,
or the autoscaling settings, leaves the replicas running.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import AnyHttpUrl, BaseModel, ConfigDict, Field, field_validator

from router.candidate import Candidate, Price
from router.errors import InvalidInputError

APPLICATION_PREFIX = "candidate-"
"""The Serve application of candidate ``x`` is ``candidate-x``."""

DEPLOYMENT_NAME = "candidate"
"""Name of the one deployment inside a candidate's application."""

HEALTH_CHECK_PERIOD_S = 1.0
"""Seconds between Serve's looks at a replica. Of one that was killed the pool learns at the next;
with Serve's own 10 s requests waited for it as long."""

NEEDED_FIELDS = frozenset({"messages", "model", "stream", "stream_options"})
"""Fields of a request without which there is no answer, or no cost of it."""


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

    draining: bool = False
    """Whether it gets no new queries; its replicas stay and finish what they have."""

    slots: int | None = Field(default=None, ge=1)
    """Queries that one replica works on without one waiting for another, by which waiting is
    predicted. If None the engine's ``max_num_seqs``, or as many as Serve lets into a replica."""

    start_s: float | None = Field(default=None, gt=0)
    """Seconds that a first replica takes to start, until one was seen to. If None 10 for an
    endpoint and 120 for a model that is loaded here."""

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
    """How a candidate is run, whatever its kind: the application's ``args``."""

    # A key that was pasted where its variable's name belongs must not reach a log.
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """The candidate's name; its application must be called ``candidate-<id>``."""


class VLLMArgs(CandidateArgs):
    """A model that vLLM runs here, through Ray Serve LLM."""

    kind: Literal["vllm"]
    """What runs it."""

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


class OpenAIArgs(CandidateArgs):
    """A model behind any endpoint that speaks OpenAI's protocol: a vLLM elsewhere, a vendor."""

    kind: Literal["openai"]
    """What runs it."""

    base_url: AnyHttpUrl
    """Where the endpoint is, version included, such as ``https://api.example.com/v1``."""

    model: str = Field(min_length=1)
    """The model's name there."""

    api_key_env: str | None = Field(default=None, pattern=r"^[A-Z_][A-Z0-9_]*$", max_length=64)
    """Name of the environment variable that holds the key; none is sent if None. It must be set
    where ``ray start`` runs, on each node that may hold a replica."""

    connect_timeout_s: float = Field(default=5.0, gt=0)
    """Most seconds for a connection to be made, or to come free."""

    silence_timeout_s: float = Field(default=60.0, gt=0)
    """Most seconds without a byte: before the answer, and within it."""

    total_timeout_s: float = Field(default=600.0, gt=0)
    """Most seconds for a whole answer."""

    drop_fields: frozenset[str] = frozenset()
    """Fields of a request that the endpoint does not know and would refuse it for."""

    num_cpus: float = Field(default=0.1, gt=0)
    """CPUs that Ray reserves for a replica, which only passes bytes on."""

    @field_validator("base_url")
    @classmethod
    def _holds_no_secret(cls, url: AnyHttpUrl) -> AnyHttpUrl:
        if url.username or url.password or url.query or url.fragment:
            raise ValueError(
                "must have no user, query or fragment; put the key in an environment variable "
                "and name that in api_key_env"
            )
        return url

    @field_validator("drop_fields")
    @classmethod
    def _leaves_what_is_needed(cls, names: frozenset[str]) -> frozenset[str]:
        if kept := names & NEEDED_FIELDS:
            raise ValueError(f"must leave {', '.join(sorted(kept))} in; remove it from the list")
        return names


KINDS: dict[str, type[VLLMArgs | OpenAIArgs]] = {"vllm": VLLMArgs, "openai": OpenAIArgs}
"""What may run a candidate, by the block's ``kind``."""


def args_model(args: Any) -> type[VLLMArgs | OpenAIArgs]:  # noqa: ANN401 - YAML of any shape
    """Return the model that checks a block's ``args``; vLLM's where no kind is stated.

    Raises:
        InvalidInputError: If the kind is not known.
    """
    kind = args.get("kind", "vllm") if isinstance(args, dict) else "vllm"
    if not isinstance(kind, str) or kind not in KINDS:
        raise InvalidInputError(
            f"kind: input should be {' or '.join(map(repr, KINDS))}, got {kind!r}", "kind"
        )
    return KINDS[kind]
