"""A person promotes in MLflow's web UI: a real server on SQLite, in a real browser.

The drill runs against the real registry and the real hot swap; what answers its questions names
the version that serves and is no model.
"""

import json
import os
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import mlflow
import pytest
from mlflow import MlflowClient
from tenacity import retry, stop_after_delay, wait_fixed

from deployments.protocol.reply import Receipt, response_headers
from deployments.versions.hot_swap import HotSwap
from deployments.versions.registry import Registry
from infra.evidence.promotion_drill import (
    Plan,
    figures,
    refusal_cells,
    run_drill,
    save_pictures,
)
from infra.evidence.registry_copies import FAULTS, REFUSED, register_copy
from infra.evidence.ui_promotion import browser_path, promote_in_ui
from router.artifact import save_artifact
from training.publishing.publish import ROUTER_MODEL, Publisher

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(browser_path() is None, reason="no Chromium is installed"),
]

PNG = b"\x89PNG\r\n\x1a\n"
REASONS = {
    "tampered artifact": "queries.safetensors differs from its listed sha256",
    "pickle in the folder": "model.pkl does not belong in an artifact",
    "no certificate": "certificate.json is missing",
    "foreign feature schema": "retrain on the served features",
}


def free_port():
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    """Return the address of a new MLflow server, which keeps the artifacts itself."""
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--host=127.0.0.1", f"--port={port}"]
    command += ["--workers=1", f"--backend-store-uri=sqlite:///{folder}/mlflow.db"]
    command += [f"--artifacts-destination={folder}/artifacts"]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "GIT_PYTHON_REFRESH": "quiet"}
    variables = os.environ | quiet | {"OMP_NUM_THREADS": "1"}
    before = mlflow.get_tracking_uri()
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, cwd=folder, env=variables, stdout=log, stderr=log)
    try:
        await_health(address)
        yield address
    finally:
        mlflow.set_tracking_uri(before)
        server.terminate()
        server.wait(timeout=30)


@retry(stop=stop_after_delay(240), wait=wait_fixed(0.3), reraise=True)
def await_health(address):
    """Wait until the server answers."""
    httpx.get(f"{address}/health", trust_env=False).raise_for_status()


@pytest.fixture(scope="module")
def published(uri, made_up, vouch, tmp_path_factory):
    """Return the numbers of two sound versions; neither is promoted."""
    publisher, numbers = Publisher(uri), []
    for seed, name in enumerate(("router-a", "router-b")):
        folder = tmp_path_factory.mktemp("trained") / name
        save_artifact(folder, made_up.fit(name, seed))
        certificate = vouch(folder)
        numbers.append(publisher.publish_router(folder, certificate, params={"seed": seed}))
    return numbers


@pytest.fixture
def registry(uri, tmp_path):
    """Return the registry as serving sees it."""
    return Registry(uri, model=ROUTER_MODEL, alias="champion", cache=tmp_path / "cache")


class Standin:
    """Answers as the ingress does, under the version that a real hot swap has taken up."""

    def __init__(self, swap):
        """Listen on a free port, and look at the registry five times a second."""
        standin = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self._send({"router": {"router_version": standin.version}}, {})

            def do_POST(self):
                self.rfile.read(int(self.headers["content-length"]))
                receipt = Receipt(
                    decision_id="dec_0",
                    candidate_id="aster",
                    router_version=standin.version or "",
                    predicted_quality=0.5,
                    policy="greedy",
                )
                self._send({"choices": []}, response_headers(receipt))

            def log_message(self, *_):
                """Say nothing."""

            def _send(self, body, headers):
                content = json.dumps(body).encode()
                self.send_response(200)
                for name, value in {**headers, "content-length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

        self._swap = swap
        self._is_over = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._threads = [
            threading.Thread(target=self._server.serve_forever),
            threading.Thread(target=self._follow),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def version(self):
        """The version that serves."""
        return self._swap.router.version if self._swap.router else None

    def stop(self):
        """Stop both threads."""
        self._is_over.set()
        self._server.shutdown()
        self._server.server_close()
        for thread in self._threads:
            thread.join()

    def _follow(self):
        while not self._is_over.wait(0.2):
            self._swap.swap_if_moved()


@pytest.fixture
def system(registry, made_up, published, uri):
    """Return the stand-in, which serves the first version."""
    MlflowClient(uri).set_registered_model_alias(ROUTER_MODEL, "champion", published[0])
    swap = HotSwap(registry, made_up.schema)
    swap.swap_if_moved()
    running = Standin(swap)
    yield running
    running.stop()


def test_the_alias_moves_in_the_ui_and_serving_follows(uri, published, registry):
    """First to a version without any alias, then from it to one that has another."""
    client = MlflowClient(uri)
    one, other = published
    for version in (one, other):
        moved = promote_in_ui(uri, ROUTER_MODEL, version)
        assert str(client.get_model_version_by_alias(ROUTER_MODEL, "champion").version) == version
        assert registry.champion_version() == version
        assert moved.before.startswith(PNG)
        assert moved.after.startswith(PNG)
        assert moved.before != moved.after
        assert moved.opened_s < moved.saved_s < moved.confirmed_s
    with pytest.raises(ValueError, match="has the alias champion already"):
        promote_in_ui(uri, ROUTER_MODEL, other)
    # The other alias, which the second version has from its publishing, stays.
    assert str(client.get_model_version_by_alias(ROUTER_MODEL, "challenger").version) == other


def test_an_old_version_without_tags_is_found_on_a_further_page(uri):
    """MLflow shows 25 versions at a time; the one to promote may be further back."""
    client = MlflowClient(uri)
    client.create_registered_model("many")
    run = client.create_run("0")
    for _ in range(27):
        client.create_model_version("many", run.info.artifact_uri, run.info.run_id)
    promote_in_ui(uri, "many", "1", "some-alias")
    assert str(client.get_model_version_by_alias("many", "some-alias").version) == "1"


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_the_one_that_serving_refuses(uri, published, system, fault):
    """The copy is registered without an alias; once it has it, the version says why."""
    client = MlflowClient(uri)
    version = register_copy(
        uri, ROUTER_MODEL, published[0], name=f"bad {fault}", fault=FAULTS[fault]
    )
    found = client.get_model_version(ROUTER_MODEL, version)
    assert found.tags["name"] == f"bad {fault}"
    assert found.aliases == []
    client.set_registered_model_alias(ROUTER_MODEL, "champion", version)
    await_tag(client, version, REASONS[fault])
    assert system.version == published[0]


@retry(stop=stop_after_delay(15), wait=wait_fixed(0.1), reraise=True)
def await_tag(client, version, reason):
    """Wait until a version says why it was refused."""
    assert reason in client.get_model_version(ROUTER_MODEL, version).tags[REFUSED]


def test_the_drill_promotes_what_is_sound_and_nothing_else(uri, published, system, tmp_path):
    """Every answer is of the champion or its copy, and the alias ends where it began."""
    plan = Plan(
        url=system.url,
        mlflow_uri=uri,
        requests_per_s=20.0,
        duration_s=2.0,
        faults=("tampered artifact", "no certificate"),
        watch_s=0.5,
    )
    drill = run_drill(plan)
    assert drill.holds, (figures(drill), refusal_cells(drill.refusals))
    assert drill.restored
    assert system.version == published[0]
    assert drill.num_failed == 0
    assert drill.swap.before == published[0]
    assert drill.versions.keys() == {published[0], drill.swap.after}
    assert drill.num_requests == sum(drill.versions.values()) > 40
    assert 0 < drill.swap.serves_s < 10
    assert drill.swap.last_of_old_s <= drill.swap.serves_s
    assert [one.fault for one in drill.refusals] == list(plan.faults)
    for one in drill.refusals:
        assert REASONS[one.fault] in one.reason
        assert one.serving == drill.swap.after
        assert 0 < one.told_s < 15
        assert one.num_by_others == 0 < one.num_requests
    save_pictures(drill, tmp_path)
    assert (tmp_path / "after.png").read_bytes().startswith(PNG)
