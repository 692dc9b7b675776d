"""The pool is what Serve says of it; a failed look keeps the last one and lets it age."""

import json
import logging
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from deployments.pool.ejection import Ejection, EjectionRules
from deployments.pool.load import LoadMeter
from deployments.pool.pool import PoolWatcher, describe, is_start, read_pool, replica_states
from deployments.pool.router_watch import RouterWatch
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


def test_replicas_that_a_new_controller_has_not_asked_yet_serve():
    """It was killed and restarted; they noticed nothing."""
    standing = read_one(application("RECOVERING", "RECOVERING", target=2))
    assert (standing.refusal, standing.num_running) == (None, 2)


def test_replicas_serve_until_others_run_on_a_node_that_stays():
    """Serve moves them off a node that is drained, and routes to them meanwhile."""
    standing = read_one(application("PENDING_MIGRATION", "STARTING"))
    assert (standing.refusal, standing.num_running) == (None, 1)


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
    [
        (500, b"{}"),
        (200, b"<html>"),
        (404, b"not found"),
        (200, b"[]"),
        (200, b"null"),
        (200, b"{}"),
        (200, b'{"applications": {}}'),
    ],
)
async def test_a_failed_look_keeps_the_pool_and_lets_it_age(watcher, status, code, body):
    """An error, a page, no object, a controller that is away: the last pool stays, and ages."""
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


async def test_the_router_is_watched_by_the_same_look(status):
    """Serve is asked once for both."""
    watch = RouterWatch("router")
    with serving(status) as url:
        watcher = PoolWatcher(url, router=watch)
        seen = details(small=application("RUNNING"))
        seen["applications"]["router"]["deployments"] = {"router": {"replicas": []}}
        status.say(seen)
        await watcher.refresh()
        await watcher._client.aclose()
    assert watch.is_gone(time.monotonic())
    assert len(status.paths) == 1


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


def scaled(value, *, scaling=None, engine=None, kind="vllm", max_ongoing=64):
    """Return an application with what its block and Serve say of its size."""
    value["deployed_app_config"]["args"] = {"kind": kind, "engine": engine or {}}
    value["deployments"]["candidate"]["deployment_config"] = {
        "max_ongoing_requests": max_ongoing,
        "autoscaling_config": scaling,
    }
    return value


SCALING = {"min_replicas": 0, "max_replicas": 3, "target_ongoing_requests": 16}


def test_capacity_comes_from_the_block_and_from_serve():
    """The engine's batch or Serve's limit, whichever is less; the card goes before both."""
    one = application("RUNNING")
    capacity = read_one(scaled(one, scaling=SCALING, engine={"max_num_seqs": 16})).capacity
    assert (capacity.num_slots, capacity.max_ongoing) == (16, 64)
    assert (capacity.max_replicas, capacity.target_ongoing) == (3, 16.0)
    endpoint = scaled(application("RUNNING"), kind="openai", max_ongoing=256)
    capacity = read_one(endpoint).capacity
    assert (capacity.num_slots, capacity.max_replicas, capacity.start_s) == (256, None, 10.0)
    stated = scaled(application("RUNNING", card=CARD | {"slots": 4, "start_s": 300}))
    assert read_one(stated).capacity.num_slots == 4
    assert read_one(stated).capacity.start_s == 300.0
    assert read_one(application("RUNNING")).capacity.num_slots is None


def test_a_fixed_number_of_no_replicas_never_starts():
    """Only an autoscaler starts one by demand."""
    assert read_one(scaled(application(target=0))).capacity.start_s is None
    assert read_one(scaled(application(target=0), scaling=SCALING)).capacity.start_s == 120.0


def test_a_wished_replica_starts_before_it_is_there():
    """Serve has decided to start one and lists none yet."""
    one = application(target=1)
    one["deployments"]["candidate"]["status"] = "UPSCALING"
    assert read_one(one).refusal is Refusal.STARTING


def test_replica_states_by_candidate():
    """For the timing of starts; other applications are left out."""
    seen = details(small=application("RUNNING", "STARTING"), away=application(deployed=False))
    assert replica_states(seen) == {"small": {"0": "RUNNING", "1": "STARTING"}}
    assert replica_states({}) == {}


@pytest.fixture
async def loaded(status):
    """Return a watcher of two candidates that know their size, its meter, and one cold."""
    meter = LoadMeter()
    status.say(
        details(
            small=scaled(application("RUNNING"), max_ongoing=2),
            large=scaled(application("RUNNING"), max_ongoing=2),
            away=scaled(application(target=0), scaling=SCALING),
        )
    )
    with serving(status) as url:
        watcher = PoolWatcher(url, load=meter)
        await watcher.refresh()
        await watcher._client.aclose()
    return watcher, meter


async def test_calls_under_way_are_in_the_pool_at_once(loaded):
    """Without another look at Serve; the same pool while there are none."""
    watcher, meter = loaded
    assert watcher.pool is watcher.pool
    meter.begin("small")
    assert watcher.pool.standing("small").capacity.num_in_flight == 1
    assert watcher.pool.standing("large").capacity.num_in_flight == 0
    assert describe(watcher.pool)["capacity"]["small"]["in_flight"] == 1
    meter.end("small")
    assert watcher.pool.standing("small").capacity.num_in_flight == 0


async def test_whoever_serve_would_let_wait_is_saturated(loaded):
    """It is masked, but not for whoever has nobody else."""
    watcher, meter = loaded
    meter.begin("small")
    meter.begin("small")
    assert watcher.pool.standing("small").refusal is Refusal.SATURATED
    assert watcher.pool.standing("large").refusal is None
    assert watcher.unejected.standing("small").refusal is None


async def test_a_start_that_is_soon_enough_may_be_waited_for(loaded):
    """120 s by the block; the others stand as they are."""
    watcher, _ = loaded
    assert describe(watcher.pool)["capacity"]["away"]["start_s"] == 120.0
    assert watcher.startable(60.0).standing("away").refusal is Refusal.COLD
    soon = watcher.startable(120.0)
    assert soon.standing("away").refusal is None
    assert [is_start(soon, name) for name in ("small", "away", "nobody")] == [False, True, False]


async def test_last_resorts_lift_ejections_first_and_then_starts(loaded):
    """The second pool lets in only who is there by the deadline."""
    watcher, _ = loaded
    (first, unejected), (second, startable) = watcher.last_resorts(lambda: 200.0)
    assert Refusal.EJECTED in first
    assert Refusal.COLD in second
    assert unejected().standing("away").refusal is Refusal.COLD
    assert startable().standing("away").refusal is None
