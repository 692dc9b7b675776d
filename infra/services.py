"""Start and stop the local services, Ray and MLflow.

State and logs lie in ``.run/``. Only processes that were started from this folder are ever ended:
another Ray or MLflow on the machine is left alone.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

ROOT = Path(__file__).resolve().parent.parent
RUN = ROOT / ".run"
RAY_API = "http://127.0.0.1:8265"
MLFLOW_URI = "http://127.0.0.1:5000"
HTTP_URL = "http://127.0.0.1:8000"
PORTS = {"ray": (6379, 8265, 8000), "mlflow": (5000,)}
MARK = "POINTSMAN_SERVICE"
"""Environment variable by which a service's processes are known."""

NUM_LOGICAL_CPUS = 8
"""Ray's CPUs are bookings, not cores: eight let four candidates, router and a retrain job fit."""

RAY_TEMP = Path("/tmp/pointsman-ray")  # noqa: S108 - Ray's socket paths must stay under 107 bytes


_children: dict[str, subprocess.Popen[bytes]] = {}
"""What this very process started; kept so that it is reaped when it ends."""


class ServiceError(RuntimeError):
    """A service did not come up; the message names its log."""


def environment() -> dict[str, str]:
    """Return the environment of every local service."""
    return os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}",
        "OMP_NUM_THREADS": "1",
        # Measured with a no-op deployment: 1226 against 305 requests/s, p50 0.9 against 6.2 ms.
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(ROOT / "infra" / "haproxy.sh"),
        # Replicas call each other by gRPC and on one event loop. Measured on a busy machine, CPU
        # of HAProxy, ingress and candidate for a pinned request: 2.6 instead of 4.5 ms, with a
        # picture of 150 kB 3.9 instead of 7.5 ms.
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        # It would hold warnings back until a thousand are together.
        "RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE": "1",
        # Ray starts one idle Python worker per logical CPU: eight, of which none would be used.
        "RAY_prestart_worker_first_driver": "0",
        "RAY_DEDUP_LOGS": "0",
        # With a token of another cluster in the home folder Ray would ask for it; all listens on
        # loopback alone.
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AIR_NEW_OUTPUT": "0",
        "RAY_TRAIN_V2_ENABLED": "1",
        "HF_HUB_OFFLINE": "1",
        "POINTSMAN_OUTCOME_LOG": str(RUN / "outcomes"),
        "POINTSMAN_ENCODERS": str(ROOT / ".cache" / "encoders"),
        "POINTSMAN_TRAIN_STORAGE": str(RUN / "train"),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "GIT_PYTHON_REFRESH": "quiet",
    }


def start_ray() -> None:
    """Start a one-node Ray with dashboard, unless ours runs already."""
    if is_running("ray"):
        return
    command = ["ray", "start", "--head", "--block", "--disable-usage-stats"]
    command += [f"--num-cpus={NUM_LOGICAL_CPUS}", "--dashboard-host=127.0.0.1"]
    # Any free port: the default one may be taken by another Ray on this machine, and then no job
    # could be submitted here.
    command += ["--node-ip-address=127.0.0.1", "--dashboard-agent-listen-port=0"]
    command += ["--object-store-memory=268435456", f"--temp-dir={RAY_TEMP}"]
    _spawn("ray", command)
    _await_http("ray", f"{RAY_API}/api/version", timeout_s=90)


def start_mlflow() -> None:
    """Start MLflow on SQLite, unless ours runs already."""
    if is_running("mlflow"):
        return
    store = RUN / "mlflow"
    store.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "mlflow", "server", "--host=127.0.0.1", "--port=5000"]
    command += ["--workers=1", f"--backend-store-uri=sqlite:///{store}/mlflow.db"]
    command += [f"--artifacts-destination={store}/artifacts"]
    _spawn("mlflow", command)


def await_mlflow() -> None:
    """Wait until MLflow answers."""
    _await_http("mlflow", f"{MLFLOW_URI}/health", timeout_s=120)


def run_module(module: str, *args: str, log: Path | None = None) -> str:
    """Run a Python module to its end in the services' environment, and return what it printed.

    Args:
        module: As in ``python -m``.
        args: Its arguments.
        log: Where what it printed is kept.

    Raises:
        ServiceError: If it fails; with the end of what it printed, or the name of the log.
    """
    done = subprocess.run(
        [sys.executable, "-m", module, *args],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if log is not None:
        log.write_text(done.stdout)
    if done.returncode != 0:
        told = f":\n{done.stdout[-2000:]}" if log is None else f"; see {log}"
        raise ServiceError(f"{module} failed{told}")
    return done.stdout


def submit_job(*command: str, log: Path) -> str:
    """Run a Python program of this repository as a Ray job, and return what it printed.

    Raises:
        ServiceError: If it fails.
    """
    where = (f"--address={RAY_API}", "--working-dir=.", "--", "python")
    return run_module("ray.scripts.scripts", "job", "submit", *where, *command, log=log)


def is_running(service: str) -> bool:
    """Return whether the service that we started is still alive."""
    return bool(processes(service))


def stop(service: str, *, grace_s: float = 20.0) -> int:
    """End a service with all of its processes, and return how many those were."""
    found = processes(service)
    if found:
        # Asked first, `ray start --block` ends raylet and controller in their own order.
        _signal(found[0], signal.SIGTERM)
        psutil.wait_procs(found, timeout=grace_s / 2)
    for signum in (signal.SIGTERM, signal.SIGKILL):
        # Looked up anew: HAProxy, for one, starts a successor while it is being stopped.
        rest = processes(service)
        for process in rest:
            _signal(process, signum)
        psutil.wait_procs(rest, timeout=grace_s / 4)
    if (child := _children.pop(service, None)) is not None:
        child.wait()
    if service == "ray":
        shutil.rmtree(RAY_TEMP, ignore_errors=True)
    return len(found)


def _signal(process: psutil.Process, signum: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(signum)


def _spawn(service: str, command: list[str]) -> None:
    _refuse_taken_ports(service)
    RUN.mkdir(exist_ok=True)
    with (RUN / f"{service}.log").open("wb") as log:
        _children[service] = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment() | {MARK: _mark(service)},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _refuse_taken_ports(service: str) -> None:
    for port in PORTS[service]:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                raise ServiceError(
                    f"port {port}, which {service} needs, is taken by a process that was not "
                    "started from this folder; stop it, or run `make down` where it was started"
                )


def _await_http(service: str, url: str, *, timeout_s: float) -> None:
    @retry(
        stop=stop_after_delay(timeout_s),
        wait=wait_fixed(0.5),
        retry=retry_if_exception_type(httpx.HTTPError),
        reraise=True,
    )
    def ask() -> None:
        if not is_running(service):
            raise ServiceError(f"{service} ended early; see {RUN.name}/{service}.log")
        httpx.get(url, timeout=5, trust_env=False).raise_for_status()

    try:
        ask()
    except httpx.HTTPError as error:
        raise ServiceError(
            f"{service} did not answer within {timeout_s:.0f} s; see {RUN.name}/{service}.log"
        ) from error


def _pid_file(service: str) -> Path:
    return RUN / f"{service}.pid.json"


def processes(service: str) -> list[psutil.Process]:
    """Return the living processes of a service, its root first.

    They are told by a mark in their environment, which every descendant inherits: HAProxy and the
    engines leave their parent's process session, so neither session nor parentage finds them all.
    """
    mark = _mark(service)
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            is_alive = process.status() != psutil.STATUS_ZOMBIE
            if is_alive and process.environ().get(MARK) == mark:
                found.append(process)
    return sorted(found, key=lambda process: process.create_time())


def _mark(service: str) -> str:
    return f"{service}:{RUN}"
