"""Step 1, images: references come in, checked pictures go out; each is fetched once, safely."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Protocol, Self, TypeVar

import httpcore
import httpx

from deployments.media.addresses import SystemResolver
from deployments.media.connect import ClosedHostError, VettedBackend
from deployments.media.limits import MediaLimits
from deployments.media.urls import (
    check_url,
    is_data_url,
    parse_url,
    port_of,
    read_data_url,
    redact,
)
from router.errors import BadImageError, ImageUnreachableError
from router.features.picture import EncodedPicture, check_picture, decode_picture

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from deployments.media.addresses import Resolver
    from deployments.protocol.messages import ImageRef
    from router.features.picture import Picture, PictureLimits

USER_AGENT = "pointsman"
_OK = 200
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_UNTYPED = frozenset({"", "application/octet-stream", "binary/octet-stream"})

P = TypeVar("P", bound=EncodedPicture)
P_co = TypeVar("P_co", bound=EncodedPicture, covariant=True)


class Reader(Protocol[P_co]):
    """Makes a picture of its bytes."""

    def __call__(self, data: bytes, *, limits: PictureLimits, field: str) -> P_co:
        """Return the picture, or raise `BadImageError`."""


class MediaFetcher:
    """Fetches images for one event loop; close it with `aclose` or as a context manager.

    Proxies named in the environment are not used: behind one, the address that is called could
    not be vetted.
    """

    def __init__(
        self,
        limits: MediaLimits | None = None,
        *,
        resolver: Resolver | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        """Set up without opening a connection.

        Args:
            limits: What may be spent and called.
            resolver: Looks up hosts; the operating system's when None.
            ssl_context: Whom to trust; the public authorities when None.
        """
        self._limits = limits or MediaLimits()
        self._own_resolver = SystemResolver()
        backend = VettedBackend(resolver or self._own_resolver, self._limits.allow_private_hosts)
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl_context or httpx.create_ssl_context(),
            max_connections=self._limits.max_connections,
            max_keepalive_connections=0,  # every request is vetted anew
            network_backend=backend,
        )

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        await self.aclose()

    async def aclose(self) -> None:
        """Close connections and threads."""
        await self._pool.aclose()
        self._own_resolver.close()

    async def fetch(self, ref: ImageRef) -> Picture:
        """Return one picture, as `fetch_all` does."""
        return (await self.fetch_all([ref]))[0]

    async def fetch_all(self, refs: Sequence[ImageRef]) -> tuple[Picture, ...]:
        """Return the pictures of one request, in order; the same URL is fetched once.

        Raises:
            ImageUnreachableError: If an image cannot be had from its URL in time.
            BadImageError: If there are too many, or one is not a picture within the limits.
        """
        return await self._fetch_all(refs, decode_picture)

    async def fetch_encoded(self, refs: Sequence[ImageRef]) -> tuple[EncodedPicture, ...]:
        """Return the same without decoding them, for requests that need no features.

        Raises:
            ImageUnreachableError: As `fetch_all`.
            BadImageError: As `fetch_all`, but not for damage that only decoding would show.
        """
        return await self._fetch_all(refs, check_picture)

    async def _fetch_all(self, refs: Sequence[ImageRef], read: Reader[P]) -> tuple[P, ...]:
        """Return what becomes of the images of one request when read so, in order."""
        limits = self._limits
        if len(refs) > limits.max_images:
            raise BadImageError(
                f"{len(refs)} images; send at most {limits.max_images}",
                refs[limits.max_images].field,
            )
        gate = asyncio.Semaphore(limits.max_concurrency)
        tasks: dict[str, asyncio.Task[P]] = {}
        try:
            async with asyncio.timeout(limits.total_timeout_s), asyncio.TaskGroup() as group:
                for ref in refs:
                    if ref.url not in tasks:
                        tasks[ref.url] = group.create_task(self._fetch(ref, gate, read))
        except TimeoutError:
            raise _late(refs, tasks, limits.total_timeout_s) from None
        except ExceptionGroup as failures:  # the first failure cancels the others
            raise failures.exceptions[0] from None
        return tuple(tasks[ref.url].result() for ref in refs)

    async def _fetch(self, ref: ImageRef, gate: asyncio.Semaphore, read: Reader[P]) -> P:
        """Return one picture, in its turn."""
        limits = self._limits.picture
        async with gate:
            if is_data_url(ref.url):
                return await asyncio.to_thread(_read_data_url, ref, limits, read)
            data = await self._download(ref)
            return await asyncio.to_thread(read, data, limits=limits, field=ref.field)

    async def _download(self, ref: ImageRef) -> bytes:
        """Return the bytes behind an address, redirects followed and each vetted."""
        url = parse_url(ref.url, ref.field)
        for _ in range(self._limits.max_redirects + 1):
            check_url(url, self._limits.ports, allow_http=self._limits.allow_http, field=ref.field)
            answer = await self._get(url, ref.field)
            if isinstance(answer, bytes):
                return answer
            url = answer
        raise ImageUnreachableError(
            f"{redact(url)} is reached by more than {self._limits.max_redirects} redirects; "
            "send the final URL",
            ref.field,
        )

    async def _get(self, url: httpx.URL, path: str) -> bytes | httpx.URL:
        """Return the bytes at one address, or where it redirects to."""
        timeouts = dict.fromkeys(("read", "write", "pool"), self._limits.total_timeout_s)
        try:
            async with self._pool.stream(
                "GET",
                httpcore.URL(
                    scheme=url.raw_scheme,
                    host=url.raw_host,
                    port=port_of(url),
                    target=url.raw_path,
                ),
                headers=_headers(url),
                extensions={"timeout": {**timeouts, "connect": self._limits.connect_timeout_s}},
            ) as response:
                return await self._read(response, url, path)
        except ClosedHostError:
            complaint = "its host has no public address; send a public URL or a data URL"
        except httpcore.TimeoutException:
            complaint = "its server is too slow; send a data URL"
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
            complaint = _network_complaint(error)
        raise ImageUnreachableError(f"{redact(url)} cannot be fetched: {complaint}", path)

    async def _read(
        self, response: httpcore.Response, url: httpx.URL, path: str
    ) -> bytes | httpx.URL:
        """Return the body of an answer, or where it redirects to."""
        headers = httpx.Headers(response.headers)
        if response.status in _REDIRECTS and "location" in headers:
            return _join(url, headers["location"], path)
        if response.status != _OK:
            raise ImageUnreachableError(
                f"{redact(url)} answered with status {response.status}; check the URL", path
            )
        max_bytes = self._limits.picture.max_bytes
        _check_headers(headers, max_bytes, url, path)
        data = bytearray()
        async for chunk in response.aiter_stream():
            data += chunk
            if len(data) > max_bytes:
                raise _oversize(url, max_bytes, path)
        return bytes(data)


def _headers(url: httpx.URL) -> list[tuple[bytes, bytes]]:
    """Return what to send with a request; nothing of the user's."""
    return [
        (b"Host", url.netloc),
        (b"Accept", b"image/*"),
        (b"Accept-Encoding", b"identity"),
        (b"User-Agent", USER_AGENT.encode("ascii")),
    ]


def _check_headers(headers: httpx.Headers, max_bytes: int, url: httpx.URL, path: str) -> None:
    """Refuse an answer by its headers, before its body is read."""
    if headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise BadImageError(
            f"{redact(url)} sends a compressed body though asked for a plain one; send a data URL",
            path,
        )
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in _UNTYPED and not media_type.startswith("image/"):
        raise BadImageError(
            f"{redact(url)} is of type {media_type[:40]!r}; send the URL of an image", path
        )
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length) > max_bytes:
        raise _oversize(url, max_bytes, path)


def _oversize(url: httpx.URL, max_bytes: int, path: str) -> BadImageError:
    """Return the error for a body over the cap."""
    return BadImageError(f"{redact(url)} has more than {max_bytes} bytes; send fewer", path)


def _join(url: httpx.URL, location: str, path: str) -> httpx.URL:
    """Return where a redirect leads."""
    try:
        return url.join(location)
    except (httpx.InvalidURL, ValueError):  # the latter from urllib, which httpx joins with
        raise ImageUnreachableError(
            f"{redact(url)} redirects to a malformed URL; send the final URL", path
        ) from None


def _network_complaint(error: Exception) -> str:
    """Return what to tell of a failed connection: never its text, which names addresses."""
    # httpcore wraps the original as an argument; its pool cuts off the cause.
    if any(isinstance(part, ssl.SSLCertVerificationError) for part in error.args):
        return "its certificate is not valid for the host; send a data URL"
    return "the connection failed; check the URL or send a data URL"


def _late(
    refs: Sequence[ImageRef], tasks: Mapping[str, asyncio.Task[P]], total_timeout_s: float
) -> ImageUnreachableError:
    """Return the error for the first image that was not there in time."""
    late = next((ref for ref in refs if tasks[ref.url].cancelled()), refs[0])
    return ImageUnreachableError(
        f"the images took longer than {total_timeout_s:g} s together; send data URLs", late.field
    )


def _read_data_url(ref: ImageRef, limits: PictureLimits, read: Reader[P]) -> P:
    """Return the picture in a data URL.

    The claimed media type is not held against the bytes: many clients say image/jpeg of every
    picture, OpenAI takes them, and candidates are told the true type anyway.
    """
    data = read_data_url(ref.url, max_bytes=limits.max_bytes, field=ref.field)
    return read(data, limits=limits, field=ref.field)
