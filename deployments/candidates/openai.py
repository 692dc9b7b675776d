"""Step 6, the far end: a candidate behind an endpoint that speaks OpenAI's protocol.

A replica passes a request on and the answer back; it needs neither torch nor vLLM. It retries
nothing, since dispatch knows who else could answer. Every answer's headers are read for how much
more the endpoint takes: while that is nothing, the replica refuses at once, with the time until it
is something again, and asks the endpoint nothing.
"""

from __future__ import annotations

import asyncio
import codecs
import logging
import time
from contextlib import AsyncExitStack, aclosing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ray import serve

from deployments.candidates.block import (
    DEPLOYMENT_NAME,
    HEALTH_CHECK_PERIOD_S,
    OpenAIArgs,
    RoutingCard,
)
from deployments.candidates.endpoint import Endpoint, EndpointStatusError
from deployments.candidates.fault import Fault, FaultError, FaultKind, fault_of, told_fault
from deployments.candidates.hold import Holdable
from deployments.candidates.rate_limit import MAX_REST_S, rest_s
from deployments.json_text import read_json, write_json
from deployments.protocol import EventParser

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping

    import aiohttp
    from ray.serve import Application

logger = logging.getLogger("pointsman.candidate")

MAX_ONGOING_REQUESTS = 256
"""Requests a replica works on at once; each is a connection that mostly waits."""


class OpenAICandidate(Holdable):
    """Answers through an endpoint.

    Args:
        args: The block's ``args``.
        clock_s: A monotonic clock.

    Raises:
        InvalidInputError: If the variable that should hold the key is not set.
    """

    def __init__(
        self, args: dict[str, Any], *, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        """Open no connection yet."""
        self._args = OpenAIArgs.model_validate(args)
        self._clock_s = clock_s
        self._rests_until_s = clock_s()
        self._endpoint = Endpoint(self._args)

    async def complete(self, body: dict[str, Any]) -> AsyncGenerator[str, None]:
        """Answer one chat completion.

        Args:
            body: OpenAI's request body, ``stream`` included.

        Yields:
            Server-sent events when ``body["stream"]``; else one JSON text. A fault is the last
            thing yielded, as OpenAI's error object.
        """
        is_stream, has_begun = bool(body.get("stream")), False
        try:
            self._check_rest()
            parts = self._events(body) if is_stream else self._completion(body)
            async with aclosing(parts):  # whoever stops listening stops the endpoint too
                async for part in parts:
                    has_begun = True
                    yield part
        except Exception as error:  # noqa: BLE001 - told or raised again
            yield self._fault(error, has_begun=has_begun).text(is_stream=is_stream)

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Check the routing card; the endpoint has no use for it."""
        RoutingCard.model_validate(user_config)

    async def close(self) -> None:
        """Close the connections to the endpoint."""
        await self._endpoint.close()

    async def _completion(self, body: dict[str, Any]) -> AsyncGenerator[str, None]:
        """Yield the whole answer."""
        async with (
            asyncio.timeout(self._args.total_timeout_s),
            self._endpoint.post(self._told(body)) as reply,
        ):
            self._read_limits(reply.headers, reply.status)
            text = await reply.read()
        completion = _checked(read_json(text))
        if not completion["choices"]:
            raise FaultError(Fault(kind=FaultKind.MALFORMED, message="the answer is empty"))
        yield write_json(completion | {"model": self._args.id}).decode()

    async def _events(self, body: dict[str, Any]) -> AsyncGenerator[str, None]:
        """Yield the answer's chunks as events, until every choice has an end."""
        until_s = asyncio.get_running_loop().time() + self._args.total_timeout_s
        is_open: dict[str, bool] = {}
        async with AsyncExitStack() as stack:
            async with asyncio.timeout_at(until_s):
                reply = await stack.enter_async_context(self._endpoint.post(self._told(body)))
            self._read_limits(reply.headers, reply.status)
            async for chunk in _chunks(reply, until_s):
                event = _checked(chunk) | {"model": self._args.id}
                _note_ends(event, is_open)
                yield f"data: {write_json(event).decode()}\n\n"
        if not is_open or any(is_open.values()):
            raise FaultError(Fault(kind=FaultKind.CUT, message="the answer has no end"))
        yield "data: [DONE]\n\n"

    def _told(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return the body as the endpoint gets it, under the name that the model has there."""
        kept = {key: value for key, value in body.items() if key not in self._args.drop_fields}
        return kept | {"model": self._args.model}

    def _check_rest(self) -> None:
        """Refuse while the endpoint has said that it takes nothing more."""
        rests_s = self._rests_until_s - self._clock_s()
        if rests_s > 0:
            message = f"the endpoint takes nothing more for {rests_s:.1f} s"
            raise FaultError(
                Fault(kind=FaultKind.RATE_LIMITED, message=message, retry_after_s=rests_s)
            )

    def _fault(self, error: Exception, *, has_begun: bool) -> Fault:
        """Return what to tell of an exception, having read what it says of the endpoint.

        Raises:
            Exception: The same one, if it is nothing that was foreseen.
        """
        if isinstance(error, EndpointStatusError):
            self._read_limits(error.headers, error.status)
            if error.told.get("code") == "insufficient_quota":  # a 429 that no short rest mends
                self._rest(MAX_REST_S)
        rests_s = max(0.0, self._rests_until_s - self._clock_s())
        fault = fault_of(error, has_begun=has_begun, retry_after_s=rests_s)
        if fault is None:
            raise error
        is_ours = fault.kind is not FaultKind.BAD_REQUEST  # those words may quote the prompt
        told = fault.message if is_ours else "the request is at fault"
        logger.warning("%s: %s: %s", self._args.id, fault.kind, told)
        return fault

    def _read_limits(self, headers: Mapping[str, str], status: int) -> None:
        """Rest for as long as an answer's headers ask for."""
        self._rest(rest_s(headers, status=status, now=datetime.now(UTC)))

    def _rest(self, for_s: float) -> None:
        """Rest until the latest time asked for; answers may overtake one another."""
        self._rests_until_s = max(self._rests_until_s, self._clock_s() + for_s)


def build_openai_candidate(args: OpenAIArgs) -> Application:
    """Return the Serve application that answers through ``args.base_url``."""
    deployment = serve.deployment(
        OpenAICandidate,
        name=DEPLOYMENT_NAME,
        max_ongoing_requests=MAX_ONGOING_REQUESTS,
        health_check_period_s=HEALTH_CHECK_PERIOD_S,
        ray_actor_options={"num_cpus": args.num_cpus},
    )
    return deployment.bind(args.model_dump(mode="json"))


async def _chunks(reply: aiohttp.ClientResponse, until_s: float) -> AsyncIterator[dict[str, Any]]:
    """Yield the chunks of a streamed answer.

    Raises:
        TimeoutError: If the answer goes on beyond a time of the loop's clock.
        CandidateReplyError: If an event is not a JSON object.
    """
    parser, decoder = EventParser(), codecs.getincrementaldecoder("utf-8")(errors="replace")
    while not parser.is_done:
        async with asyncio.timeout_at(until_s):
            piece = await reply.content.readany()
        if not piece:
            break
        # Line by line: what stands before a line that is no JSON still counts.
        for line in decoder.decode(piece).splitlines(keepends=True):
            for chunk in parser.feed(line):
                yield chunk
    for chunk in parser.close():
        yield chunk


def _checked(value: object) -> dict[str, Any]:
    """Return a completion, or a chunk of one.

    Raises:
        FaultError: If it is something else.
    """
    if isinstance(value, dict):
        if value.get("error"):
            raise FaultError(told_fault(value["error"]))
        choices = value.get("choices")
        if isinstance(choices, list) and all(isinstance(choice, dict) for choice in choices):
            return value
    raise FaultError(Fault(kind=FaultKind.MALFORMED, message="the answer is no completion"))


def _note_ends(chunk: dict[str, Any], is_open: dict[str, bool]) -> None:
    """Note which choices have begun and not ended."""
    for choice in chunk["choices"]:
        index = str(choice.get("index", 0))
        is_open[index] = is_open.get(index, True) and choice.get("finish_reason") is None
