"""On real Serve: what was lost wakes candidates without replicas, and nobody waits for it."""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx
import pytest
from own_serve import own_serve
from upstream import Upstream

pytestmark = pytest.mark.ray

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
MEASURED = logging.getLogger("pointsman.measured")
CARD = {"price": {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 1.0}, "context_window": 9999}
COLD = {"min_replicas": 0, "initial_replicas": 0, "max_replicas": 1}
QUICK = {"upscale_delay_s": 0.5, "look_back_period_s": 2.0, "metrics_interval_s": 0.5}


def block(name, url, scaling, *, model="good", **card):
    """Return one candidate's block."""
    return {
        "name": f"candidate-{name}",
        "route_prefix": None,
        "import_path": "deployments.candidates:build",
        "runtime_env": {"env_vars": {"PYTHONPATH": str(ROOT)}},
        "args": {"id": name, "kind": "openai", "base_url": url, "model": model, "num_cpus": 0.01},
        "deployments": [
            {"name": "candidate", "autoscaling_config": scaling, "user_config": CARD | card}
        ],
    }


def config(folder, port, api, url):
    """Return the Serve config: two candidates that run, and four that are scaled to zero."""
    one = {"min_replicas": 1, "max_replicas": 2, "target_ongoing_requests": 4, **QUICK}
    router = {
        "name": "router",
        "route_prefix": "/",
        "import_path": "table_router:build",
        "runtime_env": {"env_vars": {"PYTHONPATH": f"{ROOT}:{ROOT}/tests:{HERE}"}},
        "args": {
            "registry_uri": "none",
            "outcome_log": str(folder / "outcomes"),
            "encoders": "none",
            "serve_api": api,
            "pool_poll_s": 0.2,
        },
    }
    return {
        "proxy_location": "HeadOnly",
        "http_options": {"host": "127.0.0.1", "port": port},
        "applications": [
            router,
            block("plain", url, one),
            block("strong", url, one, model="late", slots=1),
            block("best", url, COLD),
            block("lone", url, COLD),
            block("shy", url, COLD),
            block("huge", url, COLD, start_s=300.0),
        ],
    }


class System:
    """A running system."""

    def __init__(self, url):
        """Take its address."""
        self.client = httpx.Client(base_url=url, timeout=60, trust_env=False)

    def ask(self, *allow, model="auto", **routing):
        """Send one question, which some may answer."""
        body = {"model": model, "messages": [{"role": "user", "content": "What?"}]}
        if model == "auto":
            body["routing"] = {"allow": list(allow), **routing}
        return self.client.post("/v1/chat/completions", json=body)

    def ready(self):
        """Return what the system says of itself."""
        return self.client.get("/readyz").json()

    def receipt(self, answer):
        """Return the outcome row of an answer."""
        return self.client.get(f"/v1/decisions/{answer.headers['x-pointsman-decision-id']}").json()


def who(answer):
    """Return who answered."""
    assert answer.status_code == 200, answer.text
    return answer.headers["x-pointsman-candidate"]


@pytest.fixture(scope="module")
def system():
    """Run Ray and Serve of this test's own: two candidates run, four are cold."""
    upstream = Upstream()

    def is_ready(body):
        return sorted(body["candidates"].values()) == ["available"] * 2 + ["cold"] * 4

    try:
        with own_serve(partial(config, url=upstream.url), is_ready=is_ready) as (url, _):
            one = System(url)
            yield one
            one.client.close()
    finally:
        upstream.stop()


def test_a_better_candidate_is_woken_by_what_it_lost(system):
    """Each question is answered at once meanwhile; then by the better one."""
    begun_s, num_before, slowest_s = time.monotonic(), 0, 0.0
    while time.monotonic() - begun_s < 60:
        asked_s = time.monotonic()
        answer = system.ask("plain", "best")
        slowest_s = max(slowest_s, time.monotonic() - asked_s)
        if who(answer) == "best":
            break
        num_before += 1
        row = system.receipt(answer)
        at = row["candidate_ids"].index("best")
        assert row["refusals"][at] in {"cold", "starting"}
        assert (row["wanted"], row["propensity"]) == ("best", 1.0)
        assert row["capacity_regret"] == pytest.approx(0.45)
        assert row["capacity_regret_quality"] == pytest.approx(0.45)
        time.sleep(0.2)
    MEASURED.info("woken_after_s %.4g", time.monotonic() - begun_s)
    MEASURED.info("slowest_answer_meanwhile_s %.4g", slowest_s)
    assert who(system.ask("plain", "best")) == "best"
    ready = system.ready()
    lost = ready["wanted_in_vain"]["best"]
    assert (lost["queries"], lost["nudges"]) == (num_before, 1)
    assert lost["regret"] == pytest.approx(0.45 * num_before, abs=0.01)
    assert ready["capacity"]["best"]["replicas"] == 1
    assert slowest_s < 5.0


def test_if_nobody_else_may_answer_the_start_is_waited_for(system):
    """As long as the deadline allows; the wait is in the decision's latency."""
    answer = system.ask("lone")
    assert who(answer) == "lone"
    row = system.receipt(answer)
    at = row["candidate_ids"].index("lone")
    assert row["waits_s"][at] > 1.0
    assert row["latencies_s"][at] == pytest.approx(row["waits_s"][at] + 0.5)
    assert row["policy"] == "greedy"


def test_a_pinned_candidate_is_waited_for(system):
    """A pin is no decision, but it wakes all the same."""
    assert who(system.ask(model="shy")) == "shy"


def test_a_start_beyond_the_deadline_is_told_and_begun(system):
    """300 s by the block: come back then. It starts meanwhile, sooner than the block said."""
    refused = system.ask("huge")
    assert refused.status_code == 503
    assert 200 < int(refused.headers["retry-after"]) <= 300
    until_s = time.monotonic() + 60
    while system.ready()["candidates"]["huge"] != "available":
        assert time.monotonic() < until_s
        time.sleep(0.5)
    assert who(system.ask("huge")) == "huge"


def test_a_full_better_candidate_gets_another_replica(system):
    """If latency is weighed the free one answers beside it; what that loses raises the number."""
    until_s, answered = time.monotonic() + 60, set()

    def keep_asking(_):
        while time.monotonic() < until_s and system.ready()["capacity"]["strong"]["replicas"] < 2:
            answered.add(who(system.ask("plain", "strong", latency_weight=0.5)))

    begun_s = time.monotonic()
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(keep_asking, range(3)))
    MEASURED.info("second_replica_after_s %.4g", time.monotonic() - begun_s)
    assert answered == {"plain", "strong"}
    ready = system.ready()
    assert ready["capacity"]["strong"]["replicas"] == 2
    assert ready["wanted_in_vain"]["strong"]["nudges"] >= 1
    assert ready["capacity"]["strong"]["max_replicas"] == 2
