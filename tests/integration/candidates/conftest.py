"""An endpoint for every test, and candidates that answer through it."""

import pytest
from upstream import Upstream

from deployments.candidates.openai import OpenAICandidate


@pytest.fixture(scope="session")
def running_upstream():
    """Return an endpoint that listens until the last test is done."""
    server = Upstream()
    yield server
    server.stop()


@pytest.fixture
def upstream(running_upstream, monkeypatch):
    """Return the endpoint, with nothing seen yet; no proxy stands before it."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    seen = running_upstream.seen
    seen.bodies.clear()
    seen.headers.clear()
    seen.num_left = 0
    return running_upstream


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self):
        """Start somewhere."""
        self.now_s = 1000.0

    def __call__(self):
        """Return the time in seconds."""
        return self.now_s


@pytest.fixture
def clock():
    """Return a clock that stands still."""
    return Clock()


@pytest.fixture
async def make(upstream, clock):
    """Return a maker of candidates, closed at the end."""
    made = []

    def make_one(model, **changes):
        args = {"id": "vendor", "kind": "openai", "base_url": upstream.url, "model": model}
        made.append(OpenAICandidate(args | changes, clock_s=clock))
        return made[-1]

    yield make_one
    for candidate in made:
        await candidate.close()
