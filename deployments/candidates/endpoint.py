"""Step 6, the far end: HTTP to an endpoint that speaks OpenAI's protocol.

Knows nothing of candidates: a body goes out, an answer of status 200 comes back, every other one
is raised.
"""

from __future__ import annotations

import io
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx

from deployments.json_text import read_json, write_json
from router.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from deployments.candidates.block import OpenAIArgs

KEEPALIVE_S = 5.0
"""Longer idle connections are closed here, before most endpoints close them."""

MAX_PIECE_BYTES = 1024 * 1024
"""Longer bodies are sent piece by piece, with turns for other requests between."""

MAX_ERROR_BYTES = 64 * 1024
"""Read of the body of an error; the rest is left."""


class EndpointStatusError(Exception):
    """The endpoint answered with another status than 200.

    Args:
        status: The HTTP status.
        headers: Of the answer.
        told: The error object in its body; empty where there is none.
    """

    def __init__(self, status: int, headers: Mapping[str, str], told: dict[str, Any]) -> None:
        """Keep the arguments in ``args``."""
        super().__init__(status, headers, told)
        self.status = status
        self.headers = headers
        self.told = told


class Endpoint:
    """An endpoint and the connections to it.

    It is told all by the block and by the usual proxy variables, nothing by OpenAI's own.

    Args:
        args: The block's ``args``.

    Raises:
        InvalidInputError: If the variable that should hold the key is not set.
    """

    def __init__(self, args: OpenAIArgs) -> None:
        """Open no connection yet; needs a running event loop."""
        authorization = _authorization(args)
        base_url = str(args.base_url).rstrip("/")
        self._url = f"{base_url}/chat/completions"
        self._proxy = _proxy_for(httpx.URL(base_url))
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, keepalive_timeout=KEEPALIVE_S, ssl=httpx.create_ssl_context()
            ),
            timeout=aiohttp.ClientTimeout(
                total=None,
                connect=args.connect_timeout_s,
                sock_connect=args.connect_timeout_s,
                sock_read=args.silence_timeout_s,
            ),
            headers={"content-type": "application/json", **authorization},
        )

    @asynccontextmanager
    async def post(self, body: Mapping[str, Any]) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request and return its answer, whose body is still to be read.

        Whoever leaves the block before its end hangs up.

        Raises:
            EndpointStatusError: If its status is not 200.
            aiohttp.ClientError: If there is no connection, or it breaks or stalls.
        """
        text = write_json(body)
        data = text if len(text) <= MAX_PIECE_BYTES else io.BytesIO(text)
        async with self._session.post(self._url, data=data, proxy=self._proxy) as response:
            if response.status != 200:  # noqa: PLR2004 - HTTP's OK
                raise EndpointStatusError(response.status, response.headers, await _told(response))
            yield response

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()


def _authorization(args: OpenAIArgs) -> dict[str, str]:
    """Return the header that holds the key; empty where the block names none."""
    if not args.api_key_env:
        return {}
    api_key = os.environ.get(args.api_key_env, "")
    if not api_key:
        raise InvalidInputError(
            f"api_key_env: {args.api_key_env} is not set on this node; set it where `ray start` "
            "runs",
            "api_key_env",
        )
    return {"authorization": f"Bearer {api_key}"}


def _proxy_for(url: httpx.URL) -> str | None:
    """Return the proxy that the environment names for a URL."""
    proxies = getproxies()
    proxy = None if proxy_bypass(url.host) else proxies.get(url.scheme, proxies.get("all"))
    return proxy if proxy is None or "://" in proxy else f"http://{proxy}"


async def _told(response: aiohttp.ClientResponse) -> dict[str, Any]:
    """Return the error object of an answer; empty where its body holds none."""
    try:
        value = read_json(await response.content.read(MAX_ERROR_BYTES))
    except (ValueError, RecursionError):
        return {}
    told = value.get("error", value) if isinstance(value, dict) else {}
    return told if isinstance(told, dict) else {}
