"""A light system for drills: the real router application before endpoints that fail as told.

The endpoint is ``tests/upstream.py`` in a process of its own; each candidate is a model of it,
which `Upstream.behave` makes good, slow or bad. No router version is registered: the dearest
candidate that the request allows is asked first, then the others.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import yaml

from infra import services
from infra.up import bring_up

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = services.RUN / "evidence" / "drills"
OUTCOMES = FOLDER / "outcomes"
VICTIMS = ("a", "b", "c", "d", "e")
"""The dearer before the cheaper."""

SPARE = "spare"
"""The cheapest, so that it is asked last."""

NAMES = (*VICTIMS, SPARE)
SETTINGS: dict[str, Any] = {
    "deadline_s": 10.0,
    "hedge_after_s": 1.0,
    "stall_s": 5.0,
    "eject_s": 2.0,
    "max_in_flight": 20,
    "outcome_flush_s": 1.0,
}
"""Of the router application, where they are not the defaults."""

RETRY_SHARE, RETRY_MIN_PER_S = 0.2, 1.0
"""The retry budget, which is the default one."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """The endpoint."""

    url: str

    def behave(self, **behaviours: str) -> None:
        """Let models behave so from now on."""
        url = f"{self.url}/behaviours"
        httpx.put(url, json=behaviours, timeout=10, trust_env=False).raise_for_status()

    def heal(self) -> None:
        """Let all be good."""
        self.behave(**dict.fromkeys(NAMES, "good"))

    def seen(self) -> dict[str, Any]:
        """Return the calls by model, and how many clients left early."""
        found: dict[str, Any] = httpx.get(f"{self.url}/seen", timeout=10, trust_env=False).json()
        return found

    def num_calls(self) -> int:
        """Return how often any model was called."""
        return sum(self.seen()["calls"].values())


@contextlib.contextmanager
def light_system() -> Iterator[Upstream]:
    """Bring the system up before an endpoint, and end the endpoint afterwards."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, str(services.ROOT / "tests" / "upstream.py"), str(port)]
    with (FOLDER / "upstream.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=services.ROOT, stdout=log, stderr=log)
    try:
        upstream = Upstream(f"http://127.0.0.1:{port}")
        _await(upstream)
        path = FOLDER / "light.yaml"
        path.write_text(yaml.safe_dump(config(f"{upstream.url}/v1"), sort_keys=False))
        bring_up(path)
        yield upstream
    finally:
        process.terminate()
        process.wait()


def config(base_url: str) -> dict[str, Any]:
    """Return the Serve config: the local router, and six candidates behind one URL."""
    found: dict[str, Any] = yaml.safe_load(
        (services.ROOT / "infra" / "serve" / "local.yaml").read_text()
    )
    router = found["applications"][0]
    router["args"] |= SETTINGS | {
        "default_candidate": None,
        "outcome_log": str(OUTCOMES),
        "registry_model": "pointsman-router-drills",
        "explore_state": str(FOLDER / "exploration"),
    }
    blocks = [_block(name, base_url, 10.0 / (i + 1)) for i, name in enumerate(NAMES)]
    return found | {"applications": [router, *blocks]}


def _block(name: str, base_url: str, price: float) -> dict[str, Any]:
    card = {
        "price": {"input_usd_per_mtok": price, "output_usd_per_mtok": price},
        "modalities": ["text", "image"],
        "max_images": 2,
        "context_window": 8192,
    }
    args = {"id": name, "kind": "openai", "base_url": base_url, "model": name}
    return {
        "name": f"candidate-{name}",
        "route_prefix": None,
        "import_path": "deployments.candidates:build",
        "args": args,
        "deployments": [{"name": "candidate", "num_replicas": 1, "user_config": card}],
    }


def _await(upstream: Upstream) -> None:
    deadline_s = time.monotonic() + 30
    while True:
        try:
            return upstream.heal()
        except httpx.ConnectError:
            if time.monotonic() > deadline_s:
                raise services.ServiceError("tests/upstream.py does not listen") from None
            time.sleep(0.1)


def states() -> dict[str, Any]:
    """Return ``/readyz``, which tells how each candidate stands."""
    found: dict[str, Any] = httpx.get(
        f"{services.HTTP_URL}/readyz", timeout=10, trust_env=False
    ).json()
    return found
