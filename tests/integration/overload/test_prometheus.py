"""Ray's metric endpoint as operators see it, and a real Prometheus that scrapes it."""

from __future__ import annotations

import shutil
import subprocess
import time
from contextlib import contextmanager

import httpx
import pytest
import ray
import yaml
from own_serve import free_port
from prometheus_client.parser import text_string_to_metric_families
from told_system import ROOT, running

from infra.grafana.dashboard import expressions
from infra.metric_table import metrics

pytestmark = pytest.mark.ray

PROMETHEUS = shutil.which("prometheus")
WITHIN_S = 90.0
"""Ray brings values to its endpoint every ten seconds."""

TOLD = {
    "decide_seconds",
    "dispatch_events_total",
    "log_rows_total",
    "pool_age_seconds",
    "refused_requests_total",
    "request_seconds",
    "requests_total",
    "router_failures_total",
    "time_to_first_token_seconds",
}
"""What the ingress has to tell after an answer, a fault of each part and a bad request."""


@pytest.fixture(scope="module")
def system():
    """Run the system, and have some of everything happen."""
    with running() as one:
        one.settle()
        assert one.ask().status_code == 200
        one.tell(a="fail", router="nan")
        assert one.ask().status_code == 200
        one.tell(a="fail")
        assert one.ask().status_code == 200
        assert one.ask(messages=[]).status_code == 400
        yield one


def endpoint():
    """Return host and port of the metric endpoint."""
    node = ray.nodes()[0]
    return f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}"


def scraped():
    """Return what the endpoint tells of Pointsman, by name."""
    text = httpx.get(f"http://{endpoint()}/metrics", timeout=30, trust_env=False).text
    return {
        # The parser takes the suffix of a counter for its kind.
        f"{one.name}_total" if one.type == "counter" else one.name: one
        for one in text_string_to_metric_families(text)
        if one.name.startswith("ray_pointsman_")
    }


@contextmanager
def prometheus(folder):
    """Run Prometheus with the rules of the repository, every second; yields a client of it."""
    config = yaml.safe_load((ROOT / "infra" / "prometheus" / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(ROOT / "infra" / "prometheus" / "alerts.yaml")]
    config["scrape_configs"][0] = {
        "job_name": config["scrape_configs"][0]["job_name"],
        "static_configs": [{"targets": [endpoint()]}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    process = subprocess.Popen(
        [
            PROMETHEUS,
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={address}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with httpx.Client(base_url=f"http://{address}/api/v1", timeout=30, trust_env=False) as one:
            yield one
    finally:
        process.terminate()
        process.wait(timeout=30)


def until(holds, told):
    """Wait until something holds.

    Args:
        holds: Returns whether it does.
        told: Returns what to tell if it never does.
    """
    until_s = time.monotonic() + WITHIN_S
    while not holds():
        assert time.monotonic() < until_s, told()
        time.sleep(1.0)


def answer(client, path, **query):
    """Return the data of an answer of Prometheus's; None while it does not listen."""
    try:
        told = client.get(path, params=query).json()
    except httpx.TransportError:
        return None
    assert told["status"] == "success", told
    return told["data"]


@pytest.mark.usefixtures("system")
def test_the_endpoint_tells_what_happened():
    """Under the names, kinds and labels of the operators' table."""
    known = {one.name: one for one in metrics(ROOT / "deployments" / "metrics.py")}
    wanted = {f"ray_pointsman_{name}" for name in TOLD}
    until(lambda: wanted <= scraped().keys(), lambda: wanted - scraped().keys())
    told = scraped()
    assert told.keys() <= known.keys()
    for name, family in told.items():
        assert family.type == known[name].kind, name
        for sample in family.samples:
            assert set(known[name].tags) <= sample.labels.keys(), name


@pytest.mark.skipif(PROMETHEUS is None, reason="Prometheus is not installed")
def test_prometheus_answers_the_dashboard_and_watches_the_rules(system, tmp_path):
    """Each panel has PromQL that runs; an alert is pending while the router fails."""
    system.tell(router="raise")
    with prometheus(tmp_path) as client:

        def pending():
            assert system.ask().status_code == 200
            alerts = answer(client, "/alerts") or {"alerts": []}
            return [one["labels"]["alertname"] for one in alerts["alerts"]]

        until(lambda: pending() == ["PointsmanRouterBypassed"], pending)
        series = {
            expression: answer(client, "/query", query=expression)["result"]
            for expression in expressions()
        }
        groups = answer(client, "/rules")["groups"]
    assert {rule["health"] for group in groups for rule in group["rules"]} == {"ok"}
    is_told = {
        expression: any(f"ray_pointsman_{name}" in expression for name in TOLD)
        for expression in series
    }
    silent = [one for one, found in series.items() if is_told[one] and not found]
    assert silent == []
