"""Two proxies before one instant endpoint: Pointsman as it is deployed, and LiteLLM's proxy."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import yaml

from infra import services
from infra.environment import CACHE, LOCKS, pip_settings, run_logged, uv_environ
from infra.progress import step
from infra.up import bring_up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FOLDER = services.RUN / "evidence" / "proxies"
VENV = CACHE / "litellm"
LOCK = LOCKS / "litellm.txt"
MODEL = "instant"
START_TIMEOUT_S = 300.0

ROLES = (
    ("haproxy", "HAProxy"),
    ("ServeReplica:router:ingress", "ingress"),
    ("ServeReplica:candidate", "candidate"),
    ("ServeReplica:router:router", "router"),
    ("ServeController", "Serve controller"),
)
"""Who is who of Pointsman's processes, by a piece of the command line."""

PATH = ("HAProxy", "ingress", "candidate", "LiteLLM")
"""Roles that a request passes through."""

LITELLM_ENVIRONMENT = {
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_LOG": "ERROR",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_TELEMETRY": "False",
    "DISABLE_ADMIN_UI": "True",
    "NO_DOCS": "True",
    "NO_PROXY": "127.0.0.1",
    "no_proxy": "127.0.0.1",
    "OMP_NUM_THREADS": "1",
}
"""What its page of best practices for production asks for, and no call to the outside."""


@dataclass(frozen=True, slots=True)
class Side:
    """One proxy that runs."""

    name: str
    url: str
    headers: dict[str, str]
    processes: Callable[[], dict[str, list[psutil.Process]]]
    """Its processes now, by role."""


@contextlib.contextmanager
def both_sides() -> Iterator[tuple[Side, Side]]:
    """Bring up endpoint, Pointsman and LiteLLM; end endpoint and LiteLLM afterwards."""
    install()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    with contextlib.ExitStack() as stack:
        port = free_port()
        command = [sys.executable, str(services.ROOT / "tests" / "instant.py"), str(port)]
        stack.enter_context(_process(command, "endpoint", os.environ))
        base_url = f"http://127.0.0.1:{port}/v1"
        await_url(f"{base_url}/models")
        litellm = stack.enter_context(_litellm(base_url))
        path = FOLDER / "pointsman.yaml"
        path.write_text(yaml.safe_dump(pointsman_config(base_url), sort_keys=False))
        bring_up(path)
        yield Side("Pointsman", services.HTTP_URL, {}, pointsman_processes), litellm


def install() -> None:
    """Make the venv hold exactly what LiteLLM's lock names."""
    uv = str(services.ROOT / ".venv" / "bin" / "uv")
    environ = uv_environ(os.environ, pip_settings())
    python = VENV / "bin" / "python"
    with step("Install LiteLLM", expected_s=30):
        if not python.exists():
            run_logged([uv, "venv", "--python", sys.executable, str(VENV)], environ)
        sync = [uv, "pip", "sync", "--python", str(python), "--require-hashes", str(LOCK)]
        run_logged(sync, environ)


def versions() -> dict[str, str]:
    """Return the version of LiteLLM that is installed, and of its HTTP server."""
    code = "import importlib.metadata as m; print(m.version('litellm'), m.version('uvicorn'))"
    done = subprocess.run(
        [str(VENV / "bin" / "python"), "-c", code], capture_output=True, text=True, check=True
    )
    litellm, uvicorn = done.stdout.split()
    return {"litellm": litellm, "uvicorn": uvicorn}


def num_workers() -> int:
    """Return LiteLLM's workers: its benchmarks advise as many as cores."""
    return os.cpu_count() or 1


def litellm_config(base_url: str) -> dict[str, Any]:
    """Return LiteLLM's config: one model, no database, no callbacks, no retries, no log lines."""
    params = {"model": f"openai/{MODEL}", "api_base": base_url, "api_key": "none"}
    return {
        "model_list": [{"model_name": MODEL, "litellm_params": params}],
        "litellm_settings": {
            "set_verbose": False,
            "json_logs": True,
            "request_timeout": 600,
            "num_retries": 0,
            "telemetry": False,
        },
    }


def pointsman_config(base_url: str) -> dict[str, Any]:
    """Return the Serve config: the local router application, and one candidate at the endpoint."""
    found: dict[str, Any] = yaml.safe_load(
        (services.ROOT / "infra" / "serve" / "local.yaml").read_text()
    )
    router = found["applications"][0]
    router["args"] |= {
        "default_candidate": MODEL,
        "outcome_log": str(FOLDER / "outcomes"),
        "registry_model": "pointsman-router-proxies",
        "explore_state": str(FOLDER / "exploration"),
        "pinned_features_share": 0.0,
    }
    card = {
        "price": {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 2.0},
        "modalities": ["text", "image"],
        "max_images": 8,
        "context_window": 128_000,
    }
    candidate = {
        "name": f"candidate-{MODEL}",
        "route_prefix": None,
        "import_path": "deployments.candidates:build",
        "args": {"id": MODEL, "kind": "openai", "base_url": base_url, "model": MODEL},
        "deployments": [{"name": "candidate", "num_replicas": 1, "user_config": card}],
    }
    return found | {"applications": [router, candidate]}


def pointsman_processes() -> dict[str, list[psutil.Process]]:
    """Return the processes of Ray and Serve by role; MLflow is not asked anything."""
    found: dict[str, list[psutil.Process]] = {}
    for process in services.processes("ray"):
        with contextlib.suppress(psutil.Error):
            found.setdefault(role_of(process.cmdline()), []).append(process)
    return found


def role_of(command: list[str]) -> str:
    """Return what a process of Pointsman's is, by its command line."""
    text = " ".join(command)
    return next((role for piece, role in ROLES if piece in text), "Ray")


@contextlib.contextmanager
def _litellm(base_url: str) -> Iterator[Side]:
    config = FOLDER / "litellm.yaml"
    config.write_text(yaml.safe_dump(litellm_config(base_url), sort_keys=False))
    key, port = f"sk-{secrets.token_hex(24)}", free_port()
    command = [str(VENV / "bin" / "litellm"), "--config", str(config), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--num_workers", str(num_workers())]
    environ = os.environ | LITELLM_ENVIRONMENT | {"LITELLM_MASTER_KEY": key}
    with _process(command, "litellm", environ) as process:
        url = f"http://127.0.0.1:{port}"
        with step("Start LiteLLM", expected_s=30):
            await_url(f"{url}/health/liveliness")
        root = psutil.Process(process.pid)
        headers = {"authorization": f"Bearer {key}"}
        yield Side(
            "LiteLLM", url, headers, lambda: {"LiteLLM": [root, *root.children(recursive=True)]}
        )


@contextlib.contextmanager
def _process(
    command: list[str], name: str, environ: os._Environ[str] | dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process, its output in a log, and end it with its children."""
    with (FOLDER / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=FOLDER, env=environ, stdout=log, stderr=log)
    family = []
    try:
        yield process
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            family = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        _, alive = psutil.wait_procs(family, timeout=10)
        for one in alive:
            one.kill()
        process.wait()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


def await_url(url: str) -> None:
    """Wait until a URL answers.

    Raises:
        ServiceError: If it does not in time.
    """
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline_s:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(url, timeout=5, trust_env=False).status_code == httpx.codes.OK:
                return
        time.sleep(0.5)
    raise services.ServiceError(f"{url} does not answer; its log is in {FOLDER}")
