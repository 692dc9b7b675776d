"""The operators' table says what the code registers."""

from pathlib import Path

import pytest

from infra.docs import ROOT
from infra.metric_table import Metric, metrics, table

MODULE = '''
"""Some metrics."""

LIMIT = 5


class Requests:
    """Of one replica."""

    def __init__(self):
        """Register."""
        self._all = Counter(
            "x_requests_total", description="All of them.", tag_keys=("status", "policy")
        )
        self._now = Gauge("x_now", description="Under way.")
        self._parts = Counts()


class Empty:
    """Registers nothing."""


class Decisions:
    """Of a router."""

    def __init__(self):
        """Register."""
        self._s = Histogram("x_s", description="How long.", boundaries=[1.0], tag_keys=("kind",))
'''


@pytest.fixture
def module(tmp_path):
    """Return a module with three metrics."""
    path = tmp_path / "some.py"
    path.write_text(MODULE)
    return path


def test_each_metric_is_found_with_its_group(module):
    """Names are those that are scraped."""
    replica, router = "Of one replica.", "Of a router."
    assert list(metrics(module)) == [
        Metric("ray_x_requests_total", "counter", ("status", "policy"), "All of them.", replica),
        Metric("ray_x_now", "gauge", (), "Under way.", replica),
        Metric("ray_x_s", "histogram", ("kind",), "How long.", router),
    ]


def test_a_table_for_each_group(module):
    """Classes that register nothing have none."""
    text = table(module)
    assert text.count("| metric | kind | labels | what |") == 2
    assert "| `ray_x_requests_total` | counter | `status`, `policy` | All of them. |" in text
    assert "Registers nothing" not in text


def test_a_name_that_is_made_up_at_run_time_is_refused(tmp_path):
    """It could not be looked up by anybody."""
    path = tmp_path / "some.py"
    path.write_text(MODULE.replace('"x_now"', "name"))
    with pytest.raises(ValueError, match="malformed"):
        list(metrics(path))


def test_signs_name_metrics_that_exist():
    """Each word of the signs that looks like a metric is one."""
    page = (ROOT / "docs" / "operating.md").read_text()
    signs = page.partition("## Signs")[2].partition("Why a candidate is masked")[0]
    known = {one.name for one in metrics(ROOT / "deployments" / "metrics.py")}
    rows = [line.split("|")[1] for line in signs.splitlines() if line.startswith("| `")]
    words = {word for row in rows for word in row.split("`")[1::2]}
    named = {word for word in words if word.replace("_", "").isalpha() and "_" in word}
    assert len(named) > 10
    unknown = {word for word in named if f"ray_pointsman_{word}" not in known}
    assert unknown <= {"budget_spent", "decided_again", "without_features"}, "labels, not metrics"


def test_settings_that_the_page_names_exist():
    """An operator finds each of them in the router's block."""
    page = (ROOT / "docs" / "operating.md").read_text()
    settings = Path(ROOT / "deployments" / "settings.py").read_text()
    named = ["decide_timeout_s", "max_in_flight", "max_in_flight_per_key", "eject_s", "stall_s"]
    named += ["eject_after_failures", "retry_share", "outcome_log_spool_bytes", "wake_regret"]
    named += ["pinned_features_share", "shadow_load"]
    for name in named:
        assert f"`{name}`" in page
        assert f"\n    {name}:" in settings
