"""The pool is what Serve says of it; a failed look keeps the last one and lets it age."""

import json
import logging
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from deployments.ejection import Ejection, EjectionRules
from deployments.pool import PoolWatcher, read_pool
from router.records import Refusal

CARD = {
    "price": {"input_usd_per_mtok": 0.1, "output_usd_per_mtok": 0.4},
    "modalities": ["text", "image"],
    "max_images": 2,
    "context_window": 512,
}


def application(*states, status="RUNNING", target=1, card=CARD, deployed=True):
    """Return one application as ``GET /api/serve/applications/`` gives it."""
    return {
        "name": "candidate",
        "status": status,
        "deployed_app_config": {
            "name": "candidate",
            "import_path": "deployments.candidates:build",
            "deployments": [
                {"name": "other", "user_config": {}},
                {"name": "candidate", "user_config": card},
            ],
        },
        "deployments": {
            "candidate": {
                "name": "candidate",
                "status": "HEALTHY",
                "target_num_replicas": target,
                "replicas": [{"replica_id": str(i), "state": s} for i, s in enumerate(states)],
            }
        }
        if deployed
        else {},
    }


def details(**applications):
    """Return the whole reply, the router's application among the candidates."""
    named = {f"candidate-{name}": value for name, value in applications.items()}
    return {"applications": {"router": {"status": "RUNNING", "deployments": {}}, **named}}


def read_one(value):
    """Return the only standing of a pool."""
    pool, faults = read_pool(details(small=value), seen_at_s=1.0)
    assert not faults
    (standing,) = pool.standings
    return standing


def test_a_running_candidate_is_available():
    """Its card comes from the config, its replicas from the status."""
    standing = read_one(application("RUNNING", "RUNNING", "STARTING", target=3))
    assert (standing.refusal, standing.num_running) == (None, 2)
    candidate = standing.candidate
    assert (candidate.id, candidate.max_images, candidate.context_window) == ("small", 2, 512)
    assert candidate.price.output_usd_per_mtok == 0.4


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (application("STARTING"), Refusal.STARTING),
        (application("UPDATING"), Refusal.STARTING),
        (application("STOPPING"), Refusal.NO_REPLICA),
        (application(), Refusal.NO_REPLICA),
        (application(target=0), Refusal.COLD),
        (application("RUNNING", target=0), Refusal.DRAINING),
        (application("STOPPING", target=0), Refusal.DRAINING),
        (application("RUNNING", status="DELETING"), Refusal.DRAINING),
        (application(status="DEPLOYING", deployed=False), Refusal.STARTING),
        (application(status="DEPLOY_FAILED", deployed=False), Refusal.NO_REPLICA),
        (application("RUNNING", status="UNHEALTHY"), None),
        (application("RUNNING", "STOPPING", status="DEPLOYING"), None),
    ],
)
def test_replicas_tell_why_a_candidate_cannot_serve(value, expected):
    """Starting, gone, scaled to zero, draining, deleted; one running replica is enough."""
    assert read_one(value).refusal is expected


def test_the_pool_keeps_the_order_of_the_config():
    """The router's own application is no candidate."""
    pool, _ = read_pool(details(b=application("RUNNING"), a=application("RUNNING")), seen_at_s=7.5)
    assert [candidate.id for candidate in pool.candidates] == ["b", "a"]
    assert pool.seen_at_s == 7.5


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (application("RUNNING", card={**CARD, "max_images": -1}), "max_images"),
        (application("RUNNING", card=None), "price"),
        ({**application("RUNNING"), "deployed_app_config": None}, "price"),
        ({**application("RUNNING"), "deployed_app_config": {"deployments": None}}, "price"),
    ],
)
def test_a_candidate_without_a_valid_card_is_left_out(value, fault):
    """The fault is told by candidate, and the others are not touched by it."""
    pool, faults = read_pool(details(bad=value, good=application("RUNNING")), seen_at_s=0.0)
    assert [candidate.id for candidate in pool.candidates] == ["good"]
    assert list(faults) == ["bad"]
    assert fault in faults["bad"]


def test_an_application_without_a_candidate_name_spoils_no_other():
    """``candidate-`` alone names nobody; the rest of the pool is read."""
    nameless = {"candidate-": application("RUNNING"), "candidate-a": application("RUNNING")}
    pool, faults = read_pool({"applications": nameless}, seen_at_s=0.0)
    assert [candidate.id for candidate in pool.candidates] == ["a"]
    assert "must not be empty" in faults[""]


def test_nothing_deployed_is_an_empty_pool():
    """Serve has no application before its first deploy."""
    assert read_pool({}, seen_at_s=0.0)[0].standings == ()
    assert read_pool({"applications": {}}, seen_at_s=0.0)[0].standings == ()


class ServeStatus:
    """What the server in the thread answers next."""

    def __init__(self):
        """Answer an empty status until told otherwise."""
        self.code = 200
        self.body = b"{}"
        self.paths = []

    def say(self, value, code=200):
        """Set the answer."""
        self.code, self.body = code, json.dumps(value).encode()


@contextmanager
def serving(status):
    """Run an HTTP server in a thread; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            status.paths.append(self.path)
            self.send_response(status.code)
            self.send_header("content-length", str(len(status.body)))
            self.end_headers()
            self.wfile.write(status.body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def status():
    """Return what the server answers."""
    return ServeStatus()


@pytest.fixture
async def watcher(status):
    """Return a watcher of a real server."""
    with serving(status) as url:
        watcher = PoolWatcher(url, period_s=0.01)
        yield watcher
        await watcher._client.aclose()


async def test_a_look_brings_the_pool(watcher, status):
    """It is asked for at Serve's public path, and is young afterwards."""
    assert watcher.pool.standings == ()
    status.say(details(small=application("RUNNING")))
    await watcher.refresh()
    assert [candidate.id for candidate in watcher.pool.candidates] == ["small"]
    assert status.paths == ["/api/serve/applications/"]
    assert 0 <= watcher.age_s() < 5
    assert watcher.num_failures == 0


@pytest.mark.parametrize(
    ("code", "body"),
    [(500, b"{}"), (200, b"<html>"), (404, b"not found"), (200, b"[]"), (200, b"null")],
)
async def test_a_failed_look_keeps_the_pool_and_lets_it_age(watcher, status, code, body):
    """An error, a page, no object at all: the last pool stays, older than before."""
    status.say(details(small=application("RUNNING")))
    await watcher.refresh()
    kept, age_s = watcher.pool, watcher.age_s()
    status.code, status.body = code, body
    await watcher.refresh()
    assert watcher.pool is kept
    assert watcher.num_failures == 1
    assert watcher.age_s() > age_s
    status.say(details())
    await watcher.refresh()
    assert watcher.pool.standings == ()


async def test_a_server_that_is_gone_keeps_the_pool(status):
    """A refused connection is a failed look too."""
    status.say(details(small=application("RUNNING")))
    with serving(status) as url:
        watcher = PoolWatcher(url)
        await watcher.refresh()
    await watcher.refresh()
    assert [candidate.id for candidate in watcher.pool.candidates] == ["small"]
    assert watcher.num_failures == 1
    await watcher._client.aclose()


async def test_a_fault_is_logged_once(watcher, status, caplog):
    """Every half second would fill the log; a changed fault is told again."""
    with caplog.at_level(logging.ERROR, logger="pointsman.pool"):
        for max_images in (-1, -1, "many"):
            status.say(
                details(bad=application("RUNNING", card={**CARD, "max_images": max_images}))
            )
            await watcher.refresh()
    assert len(caplog.records) == 2
    assert "candidate bad is left out" in caplog.messages[0]


async def test_who_is_ejected_is_masked_in_the_pool(status):
    """For the router; whoever pins it, and whoever has nobody else, sees the pool without."""
    ejection = Ejection(EjectionRules(num_in_a_row=1, base_s=60.0))
    status.say(details(small=application("RUNNING"), large=application("RUNNING")))
    with serving(status) as url:
        watcher = PoolWatcher(url, ejection=ejection)
        await watcher.refresh()
        await watcher._client.aclose()
    ejection.fail(ejection.begin("small", time.monotonic()), time.monotonic())
    assert watcher.pool.standing("small").refusal is Refusal.EJECTED
    assert watcher.pool.standing("large").refusal is None
    assert watcher.unejected.standing("small").refusal is None
    watcher.note_busy("large", 60.0)
    assert watcher.pool.standing("small").refusal is None
    assert watcher.is_panic()


async def test_a_refusal_of_serve_is_kept(status):
    """A candidate that starts is not called ejected, though it failed before."""
    ejection = Ejection(EjectionRules(num_in_a_row=1))
    status.say(details(a=application("STARTING"), b=application("RUNNING")))
    with serving(status) as url:
        watcher = PoolWatcher(url, ejection=ejection)
        await watcher.refresh()
        await watcher._client.aclose()
    ejection.fail(ejection.begin("a", time.monotonic()), time.monotonic())
    assert watcher.pool.standing("a").refusal is Refusal.STARTING
