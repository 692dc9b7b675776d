"""Step 1, images: which network addresses a user may make us call."""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

_CLOSED_V4 = tuple(
    map(
        IPv4Network,
        (
            "168.63.129.16/32",  # Azure's host agent: metadata behind a public address
            "192.0.0.0/24",  # protocol assignments, of which Python calls two global
            "192.88.99.0/24",  # 6to4 relays
        ),
    )
)
_GLOBAL_V6 = IPv6Network("2000::/3")
"""All of IPv6 that is assigned for global unicast. Leaves out what embeds IPv4 by translation:
mapped (::ffff:0:0/96), compatible (::/96), NAT64 (64:ff9b::/96, 64:ff9b:1::/48)."""

_CLOSED_V6 = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # protocol assignments, Teredo among them
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4: any IPv4 address, private ones included
            "3fff::/20",  # documentation
        ),
    )
)

NUM_RESOLVER_THREADS = 16


class Resolver(Protocol):
    """Turns a host name into addresses."""

    async def resolve(self, host: str) -> Sequence[str]:
        """Return all addresses of a host; none if it has none."""
        ...


class SystemResolver:
    """The operating system's resolver, in threads of its own.

    Python's shared threads also decode pictures; a name server that never answers must not hold
    them all.
    """

    def __init__(self) -> None:
        """Set up without starting a thread."""
        self._threads = ThreadPoolExecutor(NUM_RESOLVER_THREADS, "pointsman-resolver")

    async def resolve(self, host: str) -> Sequence[str]:
        """Return all addresses of a host; none if it has none."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, _addresses, host)

    def close(self) -> None:
        """Give up the threads; names still being asked for are left to time out."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def is_address(host: str) -> bool:
    """Tell whether a host is an address in canonical form instead of a name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def is_public(address: str) -> bool:
    """Tell whether an address belongs to the public internet and to no machine of ours.

    Stricter than ``is_global`` of Python's `ipaddress`, which for 3.11 counts multicast, NAT64
    and 6to4 as global.

    Args:
        address: IPv4 or IPv6 in the canonical form that a resolver returns.
    """
    if not is_address(address):
        return False
    ip = ip_address(address)
    return _is_public_v4(ip) if isinstance(ip, IPv4Address) else _is_public_v6(ip)


def _is_public_v4(ip: IPv4Address) -> bool:
    """Tell it of IPv4."""
    is_special = ip.is_multicast or ip.is_reserved or not ip.is_global
    return not is_special and not any(ip in network for network in _CLOSED_V4)


def _is_public_v6(ip: IPv6Address) -> bool:
    """Tell it of IPv6."""
    is_special = ip.scope_id is not None or ip not in _GLOBAL_V6 or not ip.is_global
    return not is_special and not any(ip in network for network in _CLOSED_V6)


def _addresses(host: str) -> list[str]:
    """Return all addresses of a host by asking the operating system; blocks."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):  # unknown name; a label too long for IDNA
        return []
    return [str(entry[4][0]) for entry in found]
