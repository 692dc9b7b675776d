"""Ray and Serve of a test module's own, on free ports."""

from __future__ import annotations

import shutil
import socket
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import ray
from ray import serve

ENVIRONMENT = {
    "NO_PROXY": "127.0.0.1",
    "no_proxy": "127.0.0.1",
    "OMP_NUM_THREADS": "1",
    "RAY_AUTH_MODE": "disabled",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}
START_TIMEOUT_S = 180.0


@contextmanager
def own_serve(config, *, is_ready):
    """Run a Serve config while the block runs; yields its URL and a folder that goes with it.

    Args:
        config: Makes the config of folder, HTTP port and the URL of Serve's API.
        is_ready: Tells by the body of ``/readyz`` whether all that should be there is.
    """
    folder, port = Path(tempfile.mkdtemp(prefix="pm-")), free_port()
    patch, url = pytest.MonkeyPatch(), f"http://127.0.0.1:{port}"
    for name, value in ENVIRONMENT.items():
        patch.setenv(name, value)
    patch.delenv("RAY_ADDRESS", raising=False)
    context = ray.init(
        "local",
        num_cpus=2,
        include_dashboard=True,
        dashboard_port=0,
        log_to_driver=False,
        object_store_memory=100_000_000,
    )
    applications = f"http://{context.dashboard_url}/api/serve/applications/"
    wanted = config(folder, port, f"http://{context.dashboard_url}")
    try:
        put = httpx.put(applications, json=wanted, timeout=120, trust_env=False)
        assert put.status_code == 200, put.text
        _await_ready(url, applications, is_ready)
        yield url, folder
    finally:
        serve.shutdown()
        ray.shutdown()
        patch.undo()
        shutil.rmtree(folder, ignore_errors=True)


def free_port():
    """Return a port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def _await_ready(url, applications, is_ready):
    until_s, told = time.monotonic() + START_TIMEOUT_S, None
    while time.monotonic() < until_s:
        time.sleep(0.5)
        try:
            told = httpx.get(f"{url}/readyz", timeout=30, trust_env=False).json()
            if is_ready(told):
                return
        except (httpx.HTTPError, ValueError, KeyError):
            continue
    found = httpx.get(applications, timeout=30, trust_env=False).text
    raise AssertionError(f"not ready: {told}; {found[-3000:]}")
