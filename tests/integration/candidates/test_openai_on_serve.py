"""Under real Ray Serve: endpoints stand beside one another, are told apart, scaled and drained."""

import asyncio
import json
import time
import warnings

import httpx
import pytest
from typer.testing import CliRunner

from deployments.cli import app
from deployments.dispatching.dispatch import Dispatcher, Log
from deployments.pool.pool import PoolWatcher
from router.errors import CandidateReplyError
from router.records import Refusal

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import ray
    from ray import serve

pytestmark = [
    pytest.mark.ray,
    # Ray leaves sockets and loops of its own behind, and warns of its own code.
    pytest.mark.filterwarnings("ignore"),
]
CARD = {
    "price": {"input_usd_per_mtok": 2.5, "output_usd_per_mtok": 10},
    "context_window": 8192,
}


def block(name, model, url, **deployment):
    """Return one candidate's block; the replicas know the key by a variable's name alone."""
    return {
        "name": f"candidate-{name}",
        "route_prefix": None,
        "import_path": "deployments.candidates:build",
        "args": {
            "id": name,
            "kind": "openai",
            "base_url": url,
            "model": model,
            "api_key_env": "VENDOR_API_KEY",
            "num_cpus": 0.01,
        },
        "deployments": [{"name": "candidate", "user_config": CARD, **deployment}],
    }


class Cluster:
    """A running Serve with two candidates, and its REST API."""

    def __init__(self, api, url):
        """Take the API's address and the endpoint's."""
        self.api = api
        self.blocks = [
            block("good", "good", url),
            block("bad", "full-or-cut", url),
        ]

    def deploy(self):
        """Put the config, as ``serve deploy`` does."""
        config = {"proxy_location": "Disabled", "applications": self.blocks}
        path = f"{self.api}/api/serve/applications/"
        httpx.put(path, json=config, timeout=30, trust_env=False).raise_for_status()

    def replicas(self, name):
        """Return the running replicas of a candidate."""
        found = httpx.get(f"{self.api}/api/serve/applications/", timeout=30, trust_env=False)
        application = found.json()["applications"].get(f"candidate-{name}", {})
        deployment = application.get("deployments", {}).get("candidate", {})
        return {r["replica_id"] for r in deployment.get("replicas", []) if r["state"] == "RUNNING"}

    def await_replicas(self, **counts):
        """Wait until so many replicas of each candidate run."""
        deadline_s = time.monotonic() + 180
        while any(len(self.replicas(name)) != n for name, n in counts.items()):
            assert time.monotonic() < deadline_s
            time.sleep(0.2)


@pytest.fixture(scope="module")
def cluster(running_upstream):
    """Return a Serve with a good candidate and a bad one."""
    patch = pytest.MonkeyPatch()
    patch.setenv("VENDOR_API_KEY", "sk-vendor")
    for name in ("NO_PROXY", "no_proxy"):
        patch.setenv(name, "127.0.0.1")
    patch.setenv("RAY_AUTH_MODE", "disabled")
    patch.setenv("RAY_prestart_worker_first_driver", "0")
    patch.delenv("RAY_ADDRESS", raising=False)
    context = ray.init(
        "local", num_cpus=4, include_dashboard=True, dashboard_port=0, log_to_driver=False
    )
    try:
        cluster = Cluster(f"http://{context.dashboard_url}", running_upstream.url)
        cluster.deploy()
        cluster.await_replicas(good=1, bad=1)
        yield cluster
    finally:
        serve.shutdown()
        ray.shutdown()
        patch.undo()


@pytest.fixture
async def watcher(cluster):
    """Return a watcher of the pool, as the ingress has one."""
    watcher = PoolWatcher(cluster.api)
    await watcher.refresh()
    yield watcher
    await watcher._client.aclose()


@pytest.fixture
def dispatcher(watcher):
    """Return a dispatcher on the pool."""
    return Dispatcher(lambda: watcher.pool, on_busy=watcher.note_busy)


def body(name, **more):
    """Return what dispatch sends to one candidate."""
    return {"model": name, "messages": [{"role": "user", "content": "Hello"}], **more}


async def call(dispatcher, *ranking, stream=False, **more):
    """Return the answer and the attempts."""
    log = Log(time.monotonic())
    answer = await dispatcher.call(
        ranking,
        lambda name: body(name, stream=stream, **more),
        deadline_s=time.monotonic() + 20,
        log=log,
    )
    return answer, log.attempts


def refusals(watcher):
    """Return why each candidate is masked."""
    return {s.candidate.id: s.refusal for s in watcher.pool.standings}


@pytest.mark.parametrize("stream", [False, True])
async def test_dispatch_reaches_the_endpoint(dispatcher, upstream, stream):
    """Through a replica that holds the key; whole and streamed."""
    answer, attempts = await call(dispatcher, "good", stream=stream)
    events = [event async for event in answer.events]
    assert events[-1]["usage"]["completion_tokens"] == 4
    assert not attempts
    assert upstream.seen.headers[0]["authorization"] == "Bearer sk-vendor"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_user_that_leaves_stops_the_endpoint(dispatcher, upstream, stream):
    """By way of Serve: before the first byte, and within a stream."""
    behaviour = "slow" if stream else "hang"
    calling = call(dispatcher, "good", stream=stream, user=behaviour)
    if stream:
        answer, _ = await calling
        await anext(answer.events)
        answer.cancel()
    else:
        task = asyncio.create_task(calling)
        while not upstream.seen.bodies:  # noqa: ASYNC110 - another thread's list
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    for _ in range(500):
        if upstream.seen.num_left == 1:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the endpoint goes on working for nobody")


async def test_a_stream_that_breaks_is_no_good_answer(dispatcher):
    """After the first word nobody else is asked, and the end is an error."""
    answer, _ = await call(dispatcher, "bad", "good", stream=True)
    for _ in range(2):
        assert (await anext(answer.events))["choices"][0]["delta"]["content"]
    with pytest.raises(CandidateReplyError, match="endpoint_cut"):
        await anext(answer.events)


async def test_a_full_endpoint_falls_back_and_is_masked(cluster, dispatcher, watcher, upstream):
    """The next best answers, the mask refuses the full one, and nobody asks it meanwhile."""
    answer, (attempt,) = await call(dispatcher, "bad", "good")
    assert answer.candidate_id == "good"
    assert "rate_limit_exceeded" in attempt.error
    assert refusals(watcher) == {"good": None, "bad": Refusal.SATURATED}

    other = PoolWatcher(cluster.api)  # as another ingress has it, which knows nothing of this
    await other.refresh()
    answer, (attempt,) = await call(Dispatcher(lambda: other.pool, other.note_busy), "bad", "good")
    assert answer.candidate_id == "good"
    assert refusals(other)["bad"] is Refusal.SATURATED
    assert [sent["model"] for sent in upstream.seen.bodies].count("full-or-cut") == 1
    await other._client.aclose()


async def test_draining_and_scaling_leave_the_replicas_running(cluster, watcher):
    """Both change in place: by the command, and by an edit of the config."""
    before = {name: cluster.replicas(name) for name in ("good", "bad")}
    command = ["--serve-api", cluster.api, "--json", "drain", "good"]
    done = await asyncio.to_thread(CliRunner().invoke, app, command)
    assert done.exit_code == 0, done.output
    assert "good" not in json.loads(done.stdout)["left"]
    await watcher.refresh()
    assert refusals(watcher)["good"] is Refusal.DRAINING
    await asyncio.sleep(1)
    assert {name: cluster.replicas(name) for name in before} == before

    cluster.blocks[0]["deployments"][0]["num_replicas"] = 2
    cluster.deploy()
    await asyncio.to_thread(cluster.await_replicas, good=2)
    await watcher.refresh()
    assert refusals(watcher)["good"] is None
    assert before["good"] < cluster.replicas("good")
    assert before["bad"] == cluster.replicas("bad")
