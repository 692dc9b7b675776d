"""Step 1, request: the body of a chat completion, checked, and its copy for a candidate."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from deployments.protocol.body import MAX_BODY_BYTES, expect, parse_object
from deployments.protocol.messages import read_messages, with_pictures
from deployments.protocol.routing import parse_routing
from router.errors import InvalidInputError
from router.records import QueryShape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deployments.protocol.messages import ImageRef
    from deployments.protocol.routing import RoutingFields
    from router.features.picture import EncodedPicture

AUTO = "auto"
"""The model name that asks for routing."""

MAX_CHOICES = 128
"""OpenAI's own bound on ``n``."""

MAX_OUTPUT_TOKENS = 10_000_000
"""Beyond any context window; keeps cost arithmetic within floats."""

ENGINE_FIELDS = frozenset(
    {
        "chat_template",  # a program that the engine would run
        "ec_transfer_params",  # addresses that the engine would call
        "kv_transfer_params",
        "media_io_kwargs",  # lift the engine's own caps on media
        "mm_processor_kwargs",
        "priority",  # jumps the queue of other users
        "request_id",
        "vllm_xargs",
    }
)
"""Fields that vLLM would obey and no user may set; every other field passes through."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChatCall:
    """One request for a chat completion, as far as Pointsman reads it."""

    model: str
    """``auto`` or a candidate's id; not checked against the pool."""

    routing: RoutingFields
    """Wishes for the choice."""

    stream: bool
    """Whether the reply is to come as events."""

    include_usage: bool
    """Whether the user wants the usage at the end of a stream."""

    question_text: str = field(repr=False)
    """Text of the last user message; what the features see."""

    shape: QueryShape
    """Sizes for the mask and the cost forecast; tool definitions count as text."""

    image_refs: tuple[ImageRef, ...]
    """Images of all messages, in order."""

    num_choices: int = 1
    """Replies wanted (``n``)."""

    _body: dict[str, Any] = field(repr=False)

    @property
    def is_pinned(self) -> bool:
        """Whether the request names a candidate instead of asking for routing."""
        return self.model != AUTO

    def candidate_body(
        self, pictures: Sequence[EncodedPicture], candidate_id: str
    ) -> dict[str, Any]:
        """Return the body to send to a candidate.

        Args:
            pictures: The fetched images, one for each of ``image_refs``, in order.
            candidate_id: Goes in as the model.

        Returns:
            The user's body without ``routing`` and without any URL of the user's; a stream always
            asks for its usage, which cost accounting needs.
        """
        if len(pictures) != len(self.image_refs):
            raise ValueError(f"{len(self.image_refs)} images, {len(pictures)} pictures")
        body = {key: value for key, value in self._body.items() if key != "routing"}
        body["model"] = candidate_id
        body["messages"] = with_pictures(body["messages"], pictures)
        body["stream"] = self.stream
        if self.stream:
            body["stream_options"] = {**(body.get("stream_options") or {}), "include_usage": True}
        else:
            body.pop("stream_options", None)
        return body


def parse_chat_request(body: bytes, *, max_bytes: int = MAX_BODY_BYTES) -> ChatCall:
    """Return the chat completion that a request body asks for.

    Raises:
        RequestTooLargeError: If the body is over the cap.
        InvalidInputError: If it is not a chat completion; names the field and the remedy.
    """
    value = parse_object(body, max_bytes=max_bytes)
    _refuse_engine_fields(value)
    transcript = read_messages(value.get("messages"))
    stream = _flag(value, "stream", "stream")
    num_chars = transcript.num_chars + (
        len(json.dumps(value["tools"])) if value.get("tools") else 0
    )
    return ChatCall(
        model=_model(value),
        routing=parse_routing(value.get("routing")),
        stream=stream,
        include_usage=_include_usage(value, stream=stream),
        question_text=transcript.question_text,
        shape=QueryShape(
            num_chars=num_chars,
            num_images=len(transcript.image_refs),
            max_output_tokens=_max_output_tokens(value),
        ),
        image_refs=transcript.image_refs,
        num_choices=_count(value, "n", MAX_CHOICES) or 1,
        _body=value,
    )


def _refuse_engine_fields(value: dict[str, Any]) -> None:
    """Refuse fields that would steer the engine rather than the answer."""
    for name in sorted(ENGINE_FIELDS & value.keys()):
        if value[name] is not None:
            raise InvalidInputError(f"{name} is the server's to set; remove it", name)


def _model(value: dict[str, Any]) -> str:
    """Return the model asked for."""
    remedy = f"send {AUTO} or an id from GET /v1/models"
    model = expect(value.get("model"), str, "model", remedy)
    if not model:
        raise InvalidInputError(f"model is empty; {remedy}", "model")
    return model


def _include_usage(value: dict[str, Any], *, stream: bool) -> bool:
    """Tell whether the user wants usage at the end of the stream."""
    if value.get("stream_options") is None:
        return False
    options = expect(value["stream_options"], dict, "stream_options", "send an object")
    if not stream:
        raise InvalidInputError(
            "stream_options needs a stream; set stream to true or remove it", "stream_options"
        )
    return _flag(options, "include_usage", "stream_options.include_usage")


def _max_output_tokens(value: dict[str, Any]) -> int | None:
    """Return the request's own cap on the reply, the newer name first."""
    newer = _count(value, "max_completion_tokens", MAX_OUTPUT_TOKENS)
    older = _count(value, "max_tokens", MAX_OUTPUT_TOKENS)
    return older if newer is None else newer


def _flag(value: dict[str, Any], key: str, path: str) -> bool:
    """Return a truth value; absent and null mean false."""
    given = value.get(key)
    return False if given is None else expect(given, bool, path, "send true or false")


def _count(value: dict[str, Any], key: str, most: int) -> int | None:
    """Return a count of at least 1, or None where absent."""
    if value.get(key) is None:
        return None
    count = expect(value[key], int, key, "send a whole number")
    if not 1 <= count <= most:
        raise InvalidInputError(
            f"{key} must be 1 to {most}, got {str(count)[:20]}; change it", key
        )
    return count
