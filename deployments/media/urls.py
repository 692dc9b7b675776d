"""Step 1, images: which URLs are acceptable, judged by their text alone."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING

import httpx
import pybase64

from deployments.media.addresses import is_address
from router.errors import BadImageError, ImageUnreachableError

if TYPE_CHECKING:
    from collections.abc import Collection

MAX_URL_CHARS = 8192
"""For addresses; data URLs are bounded by the image they hold."""

MAX_SHOWN_CHARS = 80

_NUMBER = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")


def is_data_url(url: str) -> bool:
    """Tell whether a URL holds its bytes itself."""
    return url[:5].lower() == "data:"


def read_data_url(url: str, *, max_bytes: int, field: str) -> bytes:
    """Return the bytes that a data URL holds.

    Args:
        url: Begins with ``data:``.
        max_bytes: Most bytes to decode.
        field: Path of the URL in the request, for the error.

    Raises:
        BadImageError: If it is not base64, not typed, or too long.
    """
    head, comma, payload = url[5:].partition(",")
    parameters = [part.strip().lower() for part in head.split(";")]
    if not comma or parameters[-1] != "base64" or not parameters[0].startswith("image/"):
        raise BadImageError(
            "the data URL is malformed; write data:image/png;base64, and then the bytes", field
        )
    payload = "".join(payload.split())  # some encoders wrap their lines
    if len(payload) > 4 * (max_bytes // 3 + 1):
        raise BadImageError(f"the image has more than {max_bytes} bytes; send fewer", field)
    try:
        return pybase64.b64decode(payload, validate=True)
    except ValueError:
        return _decode(payload, field)


def _decode(payload: str, field: str) -> bytes:
    """Return the bytes of what the quick decoder refuses; this one tells the fault better."""
    try:
        return base64.b64decode(payload, validate=True)
    except ValueError as error:
        raise BadImageError(
            f"the base64 of the data URL is malformed ({error}); encode the bytes again", field
        ) from None


def parse_url(url: str, field: str) -> httpx.URL:
    """Return the address that a text writes.

    Raises:
        ImageUnreachableError: If it writes none.
    """
    if len(url) > MAX_URL_CHARS:
        raise ImageUnreachableError(
            f"the URL has more than {MAX_URL_CHARS} characters; send a data URL", field
        )
    try:
        return httpx.URL(url)
    except httpx.InvalidURL:
        raise ImageUnreachableError(
            "the URL is malformed; write https:// and a host", field
        ) from None


def check_url(url: httpx.URL, ports: Collection[int], *, allow_http: bool, field: str) -> None:
    """Refuse an address that must not be called, before its host is looked up.

    Args:
        url: An address, of the request or of a redirect.
        ports: The ports that may be called.
        allow_http: Whether an address may do without TLS.
        field: Path of the URL in the request, for the error.

    Raises:
        ImageUnreachableError: Names what is refused and the remedy.
    """
    if complaint := _complaint(url, ports, allow_http=allow_http):
        raise ImageUnreachableError(f"{redact(url)} is refused: {complaint}", field)


def redact(url: httpx.URL) -> str:
    """Return an address for messages and logs: no user, no query, no fragment, not too long."""
    shown = f"{url.scheme}://{host_of(url)}{url.path}"
    return shown if len(shown) <= MAX_SHOWN_CHARS else f"{shown[: MAX_SHOWN_CHARS - 3]}..."


def host_of(url: httpx.URL) -> str:
    """Return the host in ASCII, as resolvers get it; ``url.host`` fails on broken punycode."""
    return url.raw_host.decode("ascii")


def port_of(url: httpx.URL) -> int:
    """Return the port that an http or https address means."""
    if url.port is not None:
        return url.port
    return 443 if url.scheme == "https" else 80


def _complaint(url: httpx.URL, ports: Collection[int], *, allow_http: bool) -> str:
    """Return what is wrong with an address and the remedy, or nothing."""
    schemes = ("https", "http") if allow_http else ("https",)
    if url.scheme not in schemes:
        return f"send an {' or '.join(schemes)} URL or a data URL"
    host = host_of(url)
    if not host:
        return "name a host"
    if url.userinfo:
        return "remove the user and password"
    if port_of(url) not in ports:
        return f"use port {' or '.join(map(str, sorted(ports)))}"
    if _is_disguised_address(host):
        return "write the address with four decimal numbers, or name a host"
    return ""


def _is_disguised_address(host: str) -> bool:
    """Tell whether resolvers would read a host as a number, such as 127.1 or 0x7f000001.

    The rule is the URL standard's: a last label of digits or hexadecimal makes it an address.
    """
    return not is_address(host) and bool(_NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]))
