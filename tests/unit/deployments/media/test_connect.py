"""Connections go to addresses that were vetted, and to no other."""

import asyncio

import httpcore
import pytest

from deployments.media.connect import ClosedHostError, VettedBackend

PUBLIC, OTHER, PRIVATE = "93.184.215.14", "8.8.8.8", "127.0.0.1"


class ScriptedResolver:
    """Answers in turn, as a hostile name server would."""

    def __init__(self, *answers):
        """Take the answers."""
        self.answers = list(answers)

    async def resolve(self, host):
        """Return the next answer."""
        del host
        return self.answers.pop(0)


class SlowResolver:
    """Never answers."""

    async def resolve(self, host):
        """Wait for ever."""
        del host
        await asyncio.Event().wait()


class Recorder(httpcore.AsyncMockBackend):
    """Opens nothing; notes which addresses were asked for and fails for some."""

    def __init__(self, dead=()):
        """Take the addresses that do not answer."""
        super().__init__([])
        self.called = []
        self.dead = dead

    async def connect_tcp(self, host, port, *args, **kwargs):
        """Note the address."""
        self.called.append(host)
        if host in self.dead:
            raise httpcore.ConnectError("dead")
        return await super().connect_tcp(host, port, *args, **kwargs)


async def test_a_name_that_changes_its_mind_is_asked_once():
    """DNS rebinding fails: the vetted address is the one that is called."""
    resolver, recorder = ScriptedResolver([PUBLIC], [PRIVATE]), Recorder()
    await VettedBackend(resolver, inner=recorder).connect_tcp("example.com", 443)
    assert recorder.called == [PUBLIC]
    assert resolver.answers == [[PRIVATE]]


async def test_every_connection_is_vetted_anew():
    """A host that was public a moment ago is refused once it is not."""
    recorder = Recorder()
    backend = VettedBackend(ScriptedResolver([PUBLIC], [PRIVATE]), inner=recorder)
    await backend.connect_tcp("example.com", 443)
    with pytest.raises(ClosedHostError):
        await backend.connect_tcp("example.com", 443)
    assert recorder.called == [PUBLIC]


@pytest.mark.parametrize("answer", [[], [PRIVATE], [PUBLIC, PRIVATE], ["nonsense"]])
async def test_one_closed_address_closes_the_host(answer):
    """A host is refused unless all its addresses are public."""
    recorder = Recorder()
    with pytest.raises(ClosedHostError):
        await VettedBackend(ScriptedResolver(answer), inner=recorder).connect_tcp("h", 443)
    assert recorder.called == []


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "0.0.0.0"])  # noqa: S104 - nobody listens there
async def test_an_address_is_its_own_answer(host):
    """A resolver has no say over an address that is written out."""
    with pytest.raises(ClosedHostError):
        await VettedBackend(ScriptedResolver([PUBLIC])).connect_tcp(host, 443)


async def test_excepted_hosts_may_be_private():
    """The exception for development is by name, in any case."""
    recorder = Recorder()
    backend = VettedBackend(ScriptedResolver([PRIVATE]), {"Dev.example.com"}, recorder)
    await backend.connect_tcp("dev.example.com", 443)
    assert recorder.called == [PRIVATE]


async def test_the_next_address_is_tried():
    """One dead address does not make a host dead, all of them do."""
    recorder = Recorder(dead={PUBLIC})
    answers = ScriptedResolver([PUBLIC, OTHER], [PUBLIC])
    backend = VettedBackend(answers, inner=recorder)
    await backend.connect_tcp("example.com", 443)
    assert recorder.called == [PUBLIC, OTHER]
    with pytest.raises(httpcore.ConnectError):
        await backend.connect_tcp("example.com", 443)


async def test_a_name_has_its_deadline():
    """A resolver that never answers is a connection that timed out."""
    with pytest.raises(httpcore.ConnectTimeout):
        await VettedBackend(SlowResolver()).connect_tcp("example.com", 443, 0.01)


async def test_unix_sockets_are_closed():
    """No image comes from a socket file."""
    with pytest.raises(ClosedHostError):
        await VettedBackend(ScriptedResolver()).connect_unix_socket("/run/x.sock")


async def test_waiting_is_left_to_the_inner_backend():
    """The pool's pauses are real ones."""
    await VettedBackend(ScriptedResolver()).sleep(0)
