"""Outcomes and labels to write into a log."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from written_logs import Log

from monitoring.outcome import Attempt, Label, Outcome, Status, Timing, Usage
from router.records import Decision, Policy, QueryShape, Refusal, Routing

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)

DECISION = Decision(
    decision_id="d0",
    router_version="7",
    feature_schema_hash="f" * 64,
    candidate_ids=("small", "large", "cold"),
    refusals=(None, None, Refusal.COLD),
    quality_means=(0.25, 0.75, 0.5),
    quality_stds=(0.125, 0.25, 0.5),
    costs_usd=(0.001, 0.01, 0.1),
    latencies_s=(0.5, 1.5, 2.5),
    utilities=(0.125, 0.625, -0.5),
    choice="small",
    propensity=0.1,
    propensities=(0.1, 0.9, 0.0),
    regret_usd=0.009,
    regret_quality=0.5,
    shadow_choice="large",
    wanted="large",
    shadow_version="8",
    policy=Policy.EXPLORE,
    seed=2**62 + 1,
    features_F=np.array([0.5, -1.5], dtype=np.float32),
)


def make_outcome(number=0, *, days=0, **changes):
    """Return an outcome in which every column has a value."""
    fields = {
        "time": NOON + timedelta(days=days, seconds=number),
        "decision": DECISION,
        "shape": QueryShape(num_chars=80, num_images=1),
        "routing": Routing(
            cost_weight=0.5, latency_weight=0.25, max_cost_usd=0.1, max_latency_s=3.5
        ),
        "query_sha256": f"{number:064x}",
        "requested_model": "auto",
        "pool_age_s": 0.25,
        "attempts": (
            Attempt(candidate_id="small", started_s=0.5, duration_s=0.25, error="it went away"),
            Attempt(candidate_id="large", started_s=0.75, duration_s=1.5),
        ),
        "answered_by": "large",
        "status": Status.OK,
        "timing": Timing(
            media_s=0.125, decide_s=0.0625, latency_s=2.25, time_to_first_token_s=1.0
        ),
        "usage": Usage(input_tokens=120, output_tokens=8, cost_usd=0.0003),
        "tenant": "acme",
    }
    return Outcome(**{**fields, **changes})


def make_label(number=0, *, days=0, **changes):
    """Return a label."""
    fields = {
        "time": NOON + timedelta(days=days, seconds=number),
        "decision_id": f"d{number}",
        "score": 0.5,
        "source": "user",
        "grader_version": "2",
    }
    return Label(**{**fields, **changes})


@pytest.fixture(scope="session")
def outcome():
    """Return the maker of outcomes."""
    return make_outcome


@pytest.fixture(scope="session")
def label():
    """Return the maker of labels."""
    return make_label


@pytest.fixture(scope="session")
def decision():
    """Return a routed decision over three candidates."""
    return DECISION


@pytest.fixture
def log(tmp_path, outcome, label, decision):
    """Return a log."""
    return Log(tmp_path, outcome, label, decision)
