"""Dashboard and alerts ask for metrics and labels that the code registers."""

import json
import re

import pytest

from infra.alert_table import rules, table
from infra.docs import ROOT
from infra.grafana import dashboard
from infra.metric_table import metrics

ALERTS = ROOT / "infra" / "prometheus" / "alerts.yaml"
KNOWN = {one.name: one for one in metrics(ROOT / "deployments" / "metrics.py")}
EXPRESSIONS = [*dashboard.expressions(), *(rule["expr"] for rule in rules(ALERTS))]
RAYS_OWN = {"deployment", "le", "replica"}


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_each_expression_asks_for_metrics_that_exist(expression):
    """By labels that one of them has; a histogram by its buckets."""
    found = re.findall(r"ray_pointsman_\w+", expression)
    assert found
    named = [KNOWN[re.sub(r"_bucket$", "", name)] for name in found]
    for one, name in zip(named, found, strict=True):
        assert (one.kind == "histogram") == name.endswith("_bucket")
        is_counted = f"rate({name}" in expression or f"increase({name}" in expression
        assert is_counted or one.kind == "gauge" or "offset" in expression
    labels = {label for one in named for label in one.tags} | RAYS_OWN
    grouped = re.findall(r"by \(([^)]*)\)", expression)
    matched = re.findall(r"[{,] ?(\w+)=", expression)
    assert {word.strip() for group in grouped for word in group.split(",")} <= labels
    assert set(matched) <= labels


def test_every_metric_is_on_the_dashboard_or_wakes_somebody():
    """But for those that only `pointsman status` and MLflow make sense of."""
    seen = set(re.findall(r"ray_pointsman_(\w+?)(?:_bucket)?\b", " ".join(EXPRESSIONS)))
    unseen = {name.removeprefix("ray_pointsman_") for name in KNOWN} - seen
    assert unseen == {
        "capacity_regret",
        "explore_regret_quality_total",
        "explore_regret_usd_total",
        "log_written_bytes_total",
        "newcomer_cap",
        "newcomers_total",
        "shadow_decisions_total",
        "wakes_total",
        "wanted_in_vain_total",
    }


def test_the_dashboard_is_one_that_grafana_can_lay_out():
    """Each panel in a place of its own, with a legend and the chosen datasource."""
    model = json.loads(dashboard.text())
    panels = model["panels"]
    assert [panel["id"] for panel in panels] == list(range(1, len(panels) + 1))
    cells = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        own = {
            (place["x"] + right, place["y"] + down)
            for right in range(place["w"])
            for down in range(place["h"])
        }
        assert not own & cells, panel["title"]
        cells |= own
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == "${datasource}"
            assert all(target["expr"] and target["legendFormat"] for target in panel["targets"])
    rows = dashboard.rows()
    assert len(panels) == len(rows) + sum(map(len, rows.values()))


def test_alerts_tell_what_to_do():
    """Each says how urgent it is, what happened and what to do, and is in the table."""
    told = table(ALERTS)
    for rule in rules(ALERTS):
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert set(rule["annotations"]) == {"summary", "description"}
        assert f"| `{rule['alert']}` |" in told
    assert "$labels" not in told
