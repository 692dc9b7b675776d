"""Step 1, images: open a connection to a vetted address, and to no other."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NoReturn

import httpcore

from deployments.media.addresses import is_address, is_public

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from deployments.media.addresses import Resolver

MAX_ADDRESSES_TRIED = 4


class ClosedHostError(Exception):
    """A host has no address, or one that is not public; which of both is nobody's business."""


class VettedBackend(httpcore.AsyncNetworkBackend):
    """Resolves a host once, vets every address, and connects to one of those very addresses.

    The connection pool knows hosts only by name, so the certificate is checked for the name,
    while a second look-up, to which a hostile name server could answer otherwise, never happens.
    """

    def __init__(
        self,
        resolver: Resolver,
        allow_private_hosts: Collection[str] = (),
        inner: httpcore.AsyncNetworkBackend | None = None,
    ) -> None:
        """Set up without connecting.

        Args:
            resolver: Looks up hosts.
            allow_private_hosts: Hosts that need no vetting, for development.
            inner: Opens the connections; gets addresses, never names.
        """
        self._resolver = resolver
        self._allow_private_hosts = frozenset(host.lower() for host in allow_private_hosts)
        self._inner = inner or httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first vetted address that answers.

        Raises:
            ClosedHostError: If any address of the host is not public.
            httpcore.ConnectError: If no address answers; ConnectTimeout if the last was too slow.
        """
        addresses = await self._vetted(host, timeout)
        failure: Exception | None = None
        for address in addresses[:MAX_ADDRESSES_TRIED]:
            try:
                return await self._inner.connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure or ClosedHostError(host)

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> NoReturn:
        """Refuse; no image lives behind a Unix socket."""
        del timeout, socket_options
        raise ClosedHostError(path)

    async def sleep(self, seconds: float) -> None:
        """Wait between the pool's own retries, of which there are none."""
        await self._inner.sleep(seconds)

    async def _vetted(self, host: str, within_s: float | None) -> Sequence[str]:
        """Return the addresses of a host, all of them public or the host excepted."""
        addresses = await self._addresses(host, within_s)
        is_excepted = host.lower() in self._allow_private_hosts
        if not addresses or not (is_excepted or all(map(is_public, addresses))):
            raise ClosedHostError(host)
        return addresses

    async def _addresses(self, host: str, within_s: float | None) -> Sequence[str]:
        """Return the addresses of a host without repetition; an address is its own."""
        if is_address(host):
            return [host]
        try:
            async with asyncio.timeout(within_s):
                return list(dict.fromkeys(await self._resolver.resolve(host)))
        except TimeoutError:
            raise httpcore.ConnectTimeout("the host name took too long to resolve") from None
