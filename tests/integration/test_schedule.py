"""Schedulers on a real Ray with its job API, a real MLflow and a real log."""

import http.server
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from ray.job_submission import JobSubmissionClient

from monitoring.outcome import Label
from monitoring.outcome_log import SegmentWriter
from training.jobs.log_signs import num_labels_since
from training.jobs.ray_jobs import RayJobs
from training.jobs.runs import JobState, Run
from training.jobs.triggers import Rules
from training.publishing.publish import Publisher
from training.schedule import RUN_TAG, Commands, LogReading, Scheduler

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
]

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 120.0

JOB = """
import os, pathlib, signal, sys, time
here = pathlib.Path(os.environ["JOB_FOLDER"])
name = sys.argv[sys.argv.index("--run") + 1]
with (here / "begun").open("a") as file:
    file.write(name + "\\n")
while not (here / "end").exists():
    time.sleep(0.05)
if (here / "end").read_text() == "die":
    os.kill(os.getpid(), signal.SIGKILL)
"""
"""In place of `training/retrain.py`: tells that it began, and ends when it is told to."""


def await_(condition):
    """Wait until something holds."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.1)


def free_ports(number):
    """Return ports that nothing listens on."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@pytest.fixture(scope="module")
def ray_api(tmp_path_factory):
    """The address of a Ray of its own, on ports of its own; its jobs meet in one folder."""
    gcs, dashboard, agent, client = free_ports(4)
    temp = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # socket paths must stay under 107 bytes
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_prestart_worker_first_driver", "0")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("NO_PROXY", "127.0.0.1")
        patch.setenv("no_proxy", "127.0.0.1")
        patch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        patch.setenv("JOB_FOLDER", str(tmp_path_factory.mktemp("jobs")))
        patch.delenv("RAY_ADDRESS", raising=False)
        command = ["ray", "start", "--head", "--block", "--node-ip-address=127.0.0.1"]
        command += [f"--port={gcs}", f"--ray-client-server-port={client}", "--num-cpus=2"]
        command += ["--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"]
        command += [f"--dashboard-agent-listen-port={agent}", f"--temp-dir={temp}"]
        command += ["--min-worker-port=0", "--max-worker-port=0"]
        command += ["--object-store-memory=80000000"]
        with (Path(temp) / "start.log").open("wb") as log:
            head = subprocess.Popen(command, stdout=log, stderr=log)
        api = f"http://127.0.0.1:{dashboard}"
        await_(lambda: has_job_agent(api))
        yield api
        head.terminate()
        head.wait(timeout=30)
    shutil.rmtree(temp, ignore_errors=True)


def has_job_agent(api):
    """Return whether a job could be submitted: the agent listens later than the dashboard."""
    try:
        return JobSubmissionClient(api).submit_job(entrypoint="true")
    except (ConnectionError, RuntimeError):
        return False


@pytest.fixture
def job_folder(ray_api):
    """Where the jobs of a test leave their marks; none of another test's is known any more."""
    folder = Path(os.environ["JOB_FOLDER"])
    client = JobSubmissionClient(ray_api)
    for job in client.list_jobs():
        name = job.submission_id
        await_(lambda name=name: client.get_job_status(name).is_terminal())
        client.delete_job(name)
    for file in folder.iterdir():
        file.unlink()
    return folder


@pytest.fixture
def code(tmp_path):
    """A working directory whose retraining does as it is told."""
    (tmp_path / "code" / "training").mkdir(parents=True)
    (tmp_path / "code" / "training" / "retrain.py").write_text(JOB)
    return tmp_path / "code"


@pytest.fixture
def outcome_log(tmp_path):
    """A log with three labels."""
    writer = SegmentWriter(tmp_path / "log", "labels", writer="test")
    for number in range(3):
        now = datetime.now(UTC)
        writer.append(Label(time=now, decision_id=f"d{number}", score=1.0, source="gold"))
    writer.flush()
    return str(tmp_path / "log")


@pytest.fixture
def registry(tmp_path):
    """An MLflow that knows nothing yet."""
    return Publisher(f"sqlite:///{tmp_path / 'mlflow.db'}", model="made-up")


def states(jobs):
    """Return how the jobs stand, in the order of their ids."""
    return [job.state for job in sorted(jobs.list(), key=lambda job: job.id)]


@pytest.fixture
def schedulers(ray_api, code, outcome_log, registry, tmp_path):
    """Two that know nothing of each other; the tag starts their count at a number of their own."""
    begun = datetime(2026, 1, 1, tzinfo=UTC)
    last = Run(number=40, name="before", begun=begun, reason="x", is_over=True)
    registry.set_tag(RUN_TAG, last.to_json())
    return [
        Scheduler(
            jobs=RayJobs(ray_api, code),
            registry=registry,
            log=LogReading(
                count_labels=lambda since: num_labels_since(outcome_log, since),
                drift=lambda _since: None,
                every_s=0.0,
            ),
            served=lambda: ["aster"],
            rules=Rules(min_labels=3, min_pause_s=0.0),
            commands=Commands(
                outcome_log=outcome_log,
                registry_uri="unused",
                url="unused",
                profile_state=tmp_path,
            ),
            max_resumes=1,
            started=begun,
        )
        for _ in range(2)
    ]


def test_one_at_a_time_and_on_under_the_same_name(schedulers, job_folder, registry):
    """Of two that look at once, one starts a run; when its driver is killed the run goes on."""
    now = datetime.now(UTC)
    with ThreadPoolExecutor(2) as pool:
        lines = sorted(pool.map(lambda scheduler: scheduler.step(now), schedulers))
    assert "labels: 3 new labels" in lines[0]
    assert lines[1].startswith("wait: ")
    await_((job_folder / "begun").exists)
    first, second = schedulers
    assert second.step(now + timedelta(minutes=1)).endswith("is not over")
    run = Run.from_json(registry.tag(RUN_TAG))
    assert first.jobs.submit(run.submission_id, "true", run.metadata()) is False

    (job_folder / "end").write_text("die")
    await_(lambda: states(first.jobs) == [JobState.DIED])
    (job_folder / "end").write_text("well")
    assert "was cut off" in second.step(now + timedelta(minutes=2))
    await_(lambda: states(first.jobs) == [JobState.DIED, JobState.SUCCEEDED])
    assert (job_folder / "begun").read_text().split() == [run.name] * 2
    assert "nothing is due; 0 new labels" in first.step(now + timedelta(minutes=3))
    assert Run.from_json(registry.tag(RUN_TAG)).is_over


class Pool(http.server.BaseHTTPRequestHandler):
    """A running system that serves one candidate."""

    def do_GET(self):
        """Answer `/v1/models`."""
        card = {
            "input_usd_per_mtok": 1.0,
            "output_usd_per_mtok": 1.0,
            "modalities": ["text"],
            "max_images": 0,
            "context_window": 1024,
        }
        body = json.dumps({"data": [{"id": "aster", "pointsman": card}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Be quiet."""


@pytest.fixture
def pool_url():
    """The address of a running system."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pool)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def command(ray_api, code, outcome_log, pool_url, tmp_path):
    """The command line of a scheduler."""
    words = [sys.executable, "-m", "training.schedule", "--cron", "", "--min-labels", "3"]
    words += ["--max-drift", "0", "--poll-s", "0.3", "--outcome-log", outcome_log]
    words += ["--storage", str(tmp_path), "--working-dir", str(code), "--ray-api", ray_api]
    words += ["--registry-uri", f"sqlite:///{tmp_path / 'mlflow.db'}", "--url", pool_url]
    return [*words, "--registry-model", "other"]


def test_a_scheduler_is_a_command_that_sigterm_ends(command, job_folder, tmp_path):
    """It starts a run, waits for it, and leaves with code 0 while the run goes on."""
    path = tmp_path / "scheduler.log"
    with path.open("wb") as file:
        process = subprocess.Popen(command, cwd=ROOT, stderr=file)
    try:
        await_(lambda: "is not over" in path.read_text())
        await_((job_folder / "begun").exists)
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=20)
    (job_folder / "end").write_text("well")
    text = path.read_text()
    assert code == 0, text
    assert text.count("start: pointsman-retrain-000001-0") == 1
    assert "stopped by SIGTERM" in text


def test_profiles_are_told_by_their_alias(registry, tmp_path):
    """One that was published on its own serves by itself."""
    assert registry.profiles() == {}
    client = registry._client
    for name in ("aster", "birch"):
        model = f"pointsman-profile-{name}"
        client.create_registered_model(model)
        client.create_model_version(model, source=str(tmp_path))
    client.set_registered_model_alias("pointsman-profile-birch", "serving", "1")
    client.create_registered_model("pointsman-routerX")
    assert registry.profiles() == {"aster": False, "birch": True}
    assert registry.tag(RUN_TAG) is None
    registry.set_tag(RUN_TAG, "x")
    assert registry.tag(RUN_TAG) == "x"
