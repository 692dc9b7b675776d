"""The real ingress on real Serve, before a router and candidates that do as they are told."""

from __future__ import annotations

import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx
from own_serve import own_serve

ROOT = Path(__file__).resolve().parents[1]
STAND_INS = ROOT / "tests" / "integration" / "overload"
CARD = {"price": {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 1.0}, "context_window": 9999,
        "modalities": ["text", "image"], "max_images": 2}  # fmt: skip


def config(folder, port, api, *, card=None, **settings):
    """Return the Serve config: the ingress and three candidates.

    Args:
        folder: Where modes and notes lie.
        port: Of the HTTP endpoint.
        api: Base URL of Ray's dashboard.
        card: What each routing card has besides.
        settings: Of the router application, instead of those here.
    """
    env = {"env_vars": {"PYTHONPATH": f"{ROOT}:{STAND_INS}"}}
    router = {
        "name": "router",
        "route_prefix": "/",
        "import_path": "stand_ins:build_router",
        "runtime_env": env,
        "args": {
            "folder": str(folder),
            "registry_uri": "none",
            "outcome_log": str(folder / "outcomes"),
            "encoders": "none",
            "serve_api": api,
            "pool_poll_s": 0.2,
            "default_candidate": "c",
            "deadline_s": 4.0,
            "decide_timeout_s": 0.5,
            "stall_s": 2.0,
            "eject_s": 2.0,
            "max_in_flight": 10,
            "max_in_flight_per_key": 8,
        }
        | settings,
    }
    candidates = [
        {
            "name": f"candidate-{name}",
            "route_prefix": None,
            "import_path": "stand_ins:build_candidate",
            "runtime_env": env,
            "args": {"id": name, "folder": str(folder)},
            "deployments": [{"name": "candidate", "user_config": CARD | (card or {})}],
        }
        for name in "abc"
    ]
    return {
        "proxy_location": "HeadOnly",
        "http_options": {"host": "127.0.0.1", "port": port},
        "applications": [router, *candidates],
    }


class System:
    """A running system, and the files by which its parts are told what to do."""

    def __init__(self, url, folder):
        """Remember both."""
        self.url, self._folder = url, folder
        self.client = httpx.Client(base_url=url, timeout=70, trust_env=False)

    def tell(self, **modes):
        """Set the modes named, and all others to ``ok``."""
        for name in ("a", "b", "c", "router"):
            (self._folder / f"{name}.mode").write_text(modes.get(name, "ok"))

    def ask(self, *, headers=None, **fields):
        """Send one question."""
        body = {"model": "auto", "messages": [{"role": "user", "content": "What?"}]}
        return self.client.post("/v1/chat/completions", json=body | fields, headers=headers or {})

    def noted(self, name, what):
        """Return when a candidate noted something, on the wall clock."""
        path = self._folder / f"{name}.log"
        lines = path.read_text().splitlines() if path.exists() else []
        return [float(line.split()[1]) for line in lines if line.startswith(what)]

    def await_noted(self, name, what, *, than, within_s):
        """Wait until more was noted than before; return when, on the wall clock."""
        until_s = time.monotonic() + within_s
        while len(self.noted(name, what)) <= than:
            assert time.monotonic() < until_s
            time.sleep(0.02)
        return self.noted(name, what)[-1]

    def settle(self):
        """Make all well and wait until nobody is ejected."""
        self.tell()
        until_s, was_well = time.monotonic() + 30, False
        while time.monotonic() < until_s:
            ready = self.client.get("/readyz").json()
            is_well = set(ready["candidates"].values()) == {"available"}
            if is_well and was_well and not ready["in_flight"]:
                return
            # An ejected candidate is readmitted by the request that is let through: when its time
            # is up it is available, but still on trial.
            self.ask()
            was_well = is_well
            time.sleep(0.0 if is_well else 0.2)
        raise AssertionError(f"not settled: {ready}")


@contextmanager
def running(**changes):
    """Run Ray and Serve of a test module's own, with changes to its `config`; yield the system."""

    def is_ready(body):
        return list(body["candidates"].values()) == ["available"] * 3

    with own_serve(partial(config, **changes), is_ready=is_ready) as (url, folder):
        one = System(url, folder)
        yield one
        one.client.close()
