"""What operators see: Ray's metric endpoint, a real Prometheus, the console in a browser."""

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
from playwright.sync_api import expect
from prometheus_client.parser import text_string_to_metric_families
from told_system import ROOT, running

from infra.evidence.ui_promotion import browser_page, browser_path
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


@pytest.mark.skipif(browser_path() is None, reason="no Chromium is installed")
def test_the_console_shows_who_may_answer_and_why_one_was_chosen(system):
    """In a real browser; what candidates say of themselves runs nowhere."""
    system.tell()
    assert system.ask().headers["x-pointsman-candidate"]
    with browser_page() as page:
        complaints = []
        page.on("console", lambda one: complaints.append(one.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"{system.url}/console")
        expect(page.locator("#state")).to_have_text("answers questions")
        expect(page.locator("#facts")).to_contain_text("stand-in")
        candidates = page.locator("#candidates tbody tr")
        expect(candidates).to_have_count(3)
        expect(candidates.nth(1)).to_contain_text("b")
        latest = page.locator("#decisions tbody tr").first
        expect(latest).to_contain_text("ok")
        latest.click()
        predictions = page.locator("#predictions tbody tr")
        expect(predictions).to_have_count(3)
        expect(page.locator("#predictions tr.chosen")).to_have_count(1)
        expect(page.locator("#attempts tbody tr").first).not_to_be_empty()
        expect(page.locator("#decision-id")).to_contain_text("dec_")
        asked = system.ask().headers["x-pointsman-decision-id"]
        expect(latest).to_have_attribute("data-decision", asked)
        assert complaints == []


def test_the_latest_decisions_are_listed(system):
    """The last first, as many as are asked for."""
    asked = [system.ask().headers["x-pointsman-decision-id"] for _ in range(3)]
    listed = system.client.get("/v1/decisions?limit=2").json()
    assert listed["object"] == "list"
    assert [one["decision_id"] for one in listed["data"]] == asked[:0:-1]
    refused = system.client.get("/v1/decisions?limit=none")
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "limit"
