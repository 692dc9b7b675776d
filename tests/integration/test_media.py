"""Images come from real HTTPS servers, or the error says why not and tells nothing else."""

import asyncio
import base64
import ssl
import threading
import time

import pytest
from picture_server import MAX_BYTES, Server, png, write_certificate

from deployments.media import MediaFetcher, MediaLimits
from deployments.protocol import ImageRef
from router.errors import BadImageError, ImageUnreachableError
from router.features.picture import PictureLimits

HOST, STRANGER, REBOUND = "images.example.com", "stranger.example.com", "rebound.example.com"
FIELD = "messages.0.content.0.image_url.url"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Return the path of a certificate with its key."""
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    write_certificate(path)
    return path


@pytest.fixture(scope="module")
def running(certificate):
    """Return a server that runs."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with Server(context) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.closing.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def server(running):
    """Return the server without a memory."""
    running.seen.clear()
    return running


class LoopbackResolver:
    """Finds the test server behind every name, as a hostile name server could."""

    async def resolve(self, host):
        """Return loopback."""
        del host
        return ["127.0.0.1"]


@pytest.fixture
def make(server, certificate):
    """Return a function to a fetcher that trusts the server and excepts two names."""

    def build(**more):
        limits = MediaLimits(
            picture=PictureLimits(max_bytes=MAX_BYTES, max_pixels=10_000),
            allowed_ports=frozenset({server.server_address[1]}),
            allow_private_hosts=frozenset({HOST, STRANGER}),
            max_images=3,
            max_connections=2,
            **more,
        )
        trust = ssl.create_default_context(cafile=certificate)
        return MediaFetcher(limits, resolver=LoopbackResolver(), ssl_context=trust)

    return build


@pytest.fixture
async def fetcher(make):
    """Return a fetcher with time enough."""
    async with make() as fetcher:
        yield fetcher


@pytest.fixture
def ref(server):
    """Return a function from path and host to a reference."""

    def build(path, host=HOST, field=FIELD):
        return ImageRef(f"https://{host}:{server.server_address[1]}/{path}", field)

    return build


def data_ref(data, media_type="image/png"):
    """Return a reference that holds its bytes."""
    return ImageRef(f"data:{media_type};base64,{base64.b64encode(data).decode()}", FIELD)


@pytest.mark.parametrize(
    "path", ["picture?token=x", "untyped", "hop/picture", "hop/hop/hop/picture"]
)
async def test_a_picture_is_fetched(fetcher, ref, path):
    """A picture arrives whole, redirects or not, and the certificate is the name's."""
    picture = await fetcher.fetch(ref(path))
    assert (picture.data, picture.width, picture.media_type) == (png(), 4, "image/png")


async def test_requests_give_nothing_away(fetcher, server, ref):
    """A server learns the path and our name, and is asked for a plain body."""
    await fetcher.fetch(ref("picture?token=x"))
    (path, headers), *more = server.seen
    assert not more
    assert path == "/picture?token=x"
    assert headers["Host"] == f"{HOST}:{server.server_address[1]}"
    assert headers["Accept-Encoding"] == "identity"
    assert set(headers) == {"Host", "Accept", "Accept-Encoding", "User-Agent"}


async def test_the_environments_proxies_are_not_used(fetcher, ref, monkeypatch):
    """A proxy would resolve the name itself, past the vetting."""
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert await fetcher.fetch(ref("picture"))


async def test_the_same_url_is_fetched_once(fetcher, server, ref):
    """Order is kept and a repeated URL costs one request."""
    refs = [ref("picture"), data_ref(png(5)), ref("picture")]
    pictures = await fetcher.fetch_all(refs)
    assert [picture.width for picture in pictures] == [4, 5, 4]
    assert len(server.seen) == 1


async def test_no_images_are_no_work(fetcher):
    """A request without images gets none."""
    assert await fetcher.fetch_all([]) == ()


@pytest.mark.parametrize(
    ("path", "kind", "told"),
    [
        ("missing", ImageUnreachableError, "status 404; check the URL"),
        ("text", BadImageError, "of type 'text/html'"),
        ("fake", BadImageError, "not an image"),
        ("gzip", BadImageError, "compressed"),
        ("announced", BadImageError, "more than 5000 bytes"),
        ("endless", BadImageError, "more than 5000 bytes"),
        ("short", ImageUnreachableError, "connection failed"),
        ("hop/hop/hop/hop/picture", ImageUnreachableError, "more than 3 redirects"),
        (f"away/{REBOUND}", ImageUnreachableError, "no public address"),
        ("away/127.0.0.1", ImageUnreachableError, "no public address"),
        ("away/[::1]", ImageUnreachableError, "no public address"),
        ("away/localhost", ImageUnreachableError, "no public address"),
        ("away/127.1", ImageUnreachableError, "four decimal numbers"),
        ("away/user@example.com", ImageUnreachableError, "remove the user"),
        (f"away/{STRANGER}", ImageUnreachableError, "certificate is not valid"),
        ("plain", ImageUnreachableError, "send an https URL"),
        ("bad", ImageUnreachableError, "malformed"),
        ("worse", ImageUnreachableError, "malformed"),
    ],
)
async def test_a_bad_server_is_a_named_error(fetcher, ref, path, kind, told):
    """Each way to fail has its message, with the field and without the answer's words."""
    with pytest.raises(kind, match=told) as caught:
        await fetcher.fetch(ref(f"{path}?token=hidden"))
    assert caught.value.field == FIELD
    for secret in ("hidden", "secret inside", "Errno"):
        assert secret not in str(caught.value)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "0x7f000001",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "2130706433",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::]",
        "0.0.0.0",  # noqa: S104 - not bound
        "localhost",
        "LOCALHOST.",
        REBOUND,
    ],
)
async def test_loopback_is_closed_in_every_spelling(server, certificate, ref, host):
    """No spelling of our own machine is called, by the system's resolver or a hostile one."""
    limits = MediaLimits(allowed_ports=frozenset({server.server_address[1]}))
    trust = ssl.create_default_context(cafile=certificate)
    resolver = LoopbackResolver() if host == REBOUND else None
    async with MediaFetcher(limits, resolver=resolver, ssl_context=trust) as fetcher:
        with pytest.raises(ImageUnreachableError):
            await fetcher.fetch(ref("picture", host))
    assert server.seen == []


async def test_only_trusted_certificates_count(server, ref):
    """Without the test's own authority the server is not believed."""
    limits = MediaLimits(
        allowed_ports=frozenset({server.server_address[1]}), allow_private_hosts=frozenset({HOST})
    )
    async with MediaFetcher(limits, resolver=LoopbackResolver()) as fetcher:
        with pytest.raises(ImageUnreachableError, match="certificate"):
            await fetcher.fetch(ref("picture"))
    assert server.seen == []


async def test_a_dead_port_is_told_without_its_address():
    """A refused connection names neither the address nor the system's words."""
    limits = MediaLimits(
        allow_http=True, allowed_ports=frozenset({9}), allow_private_hosts=frozenset({HOST})
    )
    async with MediaFetcher(limits, resolver=LoopbackResolver()) as fetcher:
        with pytest.raises(ImageUnreachableError, match="the connection failed") as caught:
            await fetcher.fetch(ImageRef(f"http://{HOST}:9/a.png", FIELD))
    assert "127.0.0.1" not in str(caught.value)


async def test_one_deadline_covers_all_images(make, ref):
    """Slow images do not add up: the request ends on time and the late one is named."""
    start_s = time.monotonic()
    refs = [data_ref(png()), ref("drip", field="late"), ref("drip/2", field="later")]
    async with make(total_timeout_s=1.0, max_concurrency=1) as fetcher:
        with pytest.raises(ImageUnreachableError, match="longer than 1 s") as caught:
            await fetcher.fetch_all(refs)
    assert time.monotonic() - start_s < 5.0
    assert caught.value.field == "late"


async def test_the_first_failure_ends_the_wait(fetcher, ref):
    """One bad image fails the request at once, though another is still coming."""
    with pytest.raises(ImageUnreachableError, match="404"):
        await fetcher.fetch_all([ref("drip"), ref("missing")])


async def test_a_caller_that_leaves_frees_its_connection(fetcher, ref):
    """A client that hangs up is a cancellation, and more of them than connections do no harm."""
    for _ in range(3):
        task = asyncio.create_task(fetcher.fetch(ref("drip")))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await fetcher.fetch(ref("picture"))


async def test_a_silent_server_is_given_up_early():
    """A server that accepts and never says a word costs the connect timeout only."""

    async def hold(reader, writer):
        await reader.read()
        writer.close()

    async with await asyncio.start_server(hold, "127.0.0.1", 0) as silent:
        port = silent.sockets[0].getsockname()[1]
        limits = MediaLimits(
            allowed_ports=frozenset({port}),
            allow_private_hosts=frozenset({HOST}),
            connect_timeout_s=0.05,
        )
        async with MediaFetcher(limits, resolver=LoopbackResolver()) as fetcher:
            with pytest.raises(ImageUnreachableError, match="too slow"):
                await fetcher.fetch(ImageRef(f"https://{HOST}:{port}/", FIELD))


async def test_too_many_images_name_the_first_over_the_cap(fetcher, ref):
    """The cap is checked before anything is fetched."""
    refs = [ref("picture", field=str(i)) for i in range(4)]
    with pytest.raises(BadImageError, match="4 images; send at most 3") as caught:
        await fetcher.fetch_all(refs)
    assert caught.value.field == "3"


async def test_data_urls_are_believed_by_their_bytes(fetcher):
    """A PNG that claims to be a JPEG, as many clients send, comes back as the PNG it is."""
    picture = await fetcher.fetch(data_ref(png(), "image/jpeg"))
    assert picture.media_type == "image/png"


async def test_pixels_are_capped(fetcher):
    """A small file with many pixels is refused by its header."""
    with pytest.raises(BadImageError, match="40000 pixels"):
        await fetcher.fetch(data_ref(png(200)))


@pytest.mark.parametrize(
    "wrong",
    [{"max_images": 0}, {"total_timeout_s": 0.0}, {"max_redirects": -1}, {"max_connections": 0}],
)
def test_limits_that_let_nothing_through_are_refused(wrong):
    """A setting under which nothing works fails when it is built."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        MediaLimits(**wrong)


def test_ports_follow_the_schemes():
    """443 alone, 80 with HTTP, or what is configured."""
    assert MediaLimits().ports == {443}
    assert MediaLimits(allow_http=True).ports == {80, 443}
    assert MediaLimits(allowed_ports=frozenset({8443})).ports == {8443}
