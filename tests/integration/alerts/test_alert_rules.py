"""Each alert fires on what it is for, and on nothing else; Prometheus's own tool plays it."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
PROMETHEUS = ROOT / "infra" / "prometheus"
ALERTS = {
    rule["alert"]: rule
    for group in yaml.safe_load((PROMETHEUS / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
}

HEALTHY = {
    'requests_total{status="ok",policy="greedy",candidate="a"}': "0+100x90",
    'requests_total{status="ok",policy="fallback",candidate="b"}': "0+1x90",
    'requests_total{status="cancelled",policy="greedy",candidate="a"}': "0+5x90",
    'requests_total{status="rejected",policy="greedy",candidate="a"}': "0+9x90",
    'refused_requests_total{error="InvalidInputError"}': "0+9x90",
    'router_failures_total{reason="gone",error="RouterGoneError"}': "0+1x90",
    'dispatch_events_total{event="ejected",candidate="a"}': "1+0x30 2+0x59",
    'dispatch_events_total{event="retry",candidate="a"}': "0+1x90",
    'decide_seconds_bucket{policy="greedy",le="0.1"}': "0+100x90",
    'decide_seconds_bucket{policy="greedy",le="2.5"}': "0+100x90",
    'decide_seconds_bucket{policy="greedy",le="+Inf"}': "0+100x90",
    'pool_age_seconds{deployment="ingress"}': "0.2+0x90",
    'log_rows_total{table="outcomes",result="written"}': "0+100x90",
    'log_rows_total{table="outcomes",result="dropped"}': "7+0x90",
    'log_retries_total{table="outcomes"}': "1+0x90",
    'router_swaps_total{result="served"}': "1+0x30 2+0x59",
    'router_swaps_total{result="refused"}': "1+0x90",
    'router_swaps_total{result="unreachable"}': "3+0x90",
    'capacity_regret_total{candidate="a"}': "0+0.1x90",
    "kill_switch": "0+0x30 1+0x30 0+0x29",
}
"""An hour and a half, a value a minute: some trouble, none that anybody should be told of."""

TROUBLE = {
    "PointsmanRequestsFail": {
        'requests_total{status="failed",policy="greedy",candidate="a"}': "0+2x90",
    },
    "PointsmanNobodyAvailable": {
        'requests_total{status="rejected",policy="",candidate=""}': "0+2x90",
    },
    "PointsmanOverloaded": {'refused_requests_total{error="OverloadedError"}': "0+10x90"},
    "PointsmanRouterBypassed": {
        'router_failures_total{reason="hung",error="TimeoutError"}': "0+10x90",
    },
    "PointsmanDecisionsSlow": {
        'decide_seconds_bucket{policy="explore",le="0.1"}': "0+0x90",
        'decide_seconds_bucket{policy="explore",le="2.5"}': "0+2x90",
        'decide_seconds_bucket{policy="explore",le="+Inf"}': "0+2x90",
    },
    "PointsmanCandidateEjected": {
        'dispatch_events_total{event="ejected",candidate="b"}': "0+1x90",
    },
    "PointsmanRetriesSpent": {
        'dispatch_events_total{event="budget_spent",candidate="a"}': "0+1x90",
    },
    "PointsmanEjectionPanic": {"ejection_panics_total": "0+1x90"},
    "PointsmanPoolStale": {'pool_age_seconds{deployment="ingress",replica="2"}': "0+60x90"},
    "PointsmanLogBehind": {'log_retries_total{table="labels"}': "0+1x90"},
    "PointsmanLogRowsLost": {
        'log_rows_total{table="outcomes",result="dropped",replica="2"}': "_x80 1+0x9",
    },
    "PointsmanVersionRefused": {
        'router_swaps_total{result="refused",replica="2"}': "_x80 1+0x9",
    },
    "PointsmanRegistryUnreachable": {
        'router_swaps_total{result="unreachable",replica="2"}': "0+1x90",
    },
    "PointsmanCapacityWanted": {'capacity_regret_total{candidate="b"}': "0+20x90"},
    "PointsmanKillSwitch": {'kill_switch{replica="2"}': "1+0x90"},
}
"""What has the alert of that name fire, beside all that is healthy."""

PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")


def complaint(*arguments):
    """Run promtool; return what it complains of, empty if of nothing."""
    done = subprocess.run(
        [PROMTOOL, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def misfires(series, expected, folder, *, at="89m"):
    """Play the series; return what promtool says if other alerts than the expected fire."""
    test = {
        "interval": "1m",
        "input_series": [
            {"series": f"ray_pointsman_{name}", "values": values}
            for name, values in series.items()
        ],
        "promql_expr_test": [
            {
                "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": at,
                "exp_samples": [
                    {"labels": f'{{alertname="{name}"}}', "value": 1} for name in expected
                ],
            }
        ],
    }
    path, rules = folder / "test.yaml", [str(PROMETHEUS / "alerts.yaml")]
    path.write_text(yaml.safe_dump({"rule_files": rules, "tests": [test]}))
    return complaint("test", "rules", path)


@needs_promtool
def test_healthy_traffic_wakes_nobody(tmp_path):
    """With a retry, an ejection, a restart, a promotion and users' own errors in it."""
    assert misfires(HEALTHY, [], tmp_path) == ""


@needs_promtool
@pytest.mark.parametrize("name", TROUBLE)
def test_each_trouble_fires_its_alert_alone(name, tmp_path):
    """Beside healthy traffic."""
    assert misfires(HEALTHY | TROUBLE[name], [name], tmp_path) == ""


@needs_promtool
def test_silence_fires_too(tmp_path):
    """Nothing is scraped any more."""
    series = {'requests_total{status="ok"}': "0+1x9 _x80"}
    assert misfires(series, ["PointsmanGone"], tmp_path) == ""


@needs_promtool
@pytest.mark.parametrize("name", ["PointsmanLogRowsLost", "PointsmanVersionRefused"])
def test_one_event_is_told_of_for_a_quarter_of_an_hour(name, tmp_path):
    """Though `increase` does not see a counter's first step."""
    series = HEALTHY | dict.fromkeys(TROUBLE[name], "_x60 1+0x29")
    assert misfires(series, [name], tmp_path, at="70m") == ""
    assert misfires(series, [], tmp_path, at="80m") == ""


@needs_promtool
def test_prometheus_takes_the_configuration():
    """Rules included."""
    assert complaint("check", "config", PROMETHEUS / "prometheus.yml") == ""


def test_every_alert_is_played():
    """One that is added needs its trouble here."""
    assert set(ALERTS) == {*TROUBLE, "PointsmanGone"}
