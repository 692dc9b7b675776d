"""A row holds its columns, and nothing that a user wrote."""

import dataclasses

import pytest

from monitoring.outcome import LABEL_SCHEMA, OUTCOME_SCHEMA, SCHEMA_VERSION, Timing
from router.records import Decision, Refusal, Routing


def test_a_row_has_exactly_the_columns_of_the_schema(outcome, label):
    """Neither side has one that the other lacks."""
    assert list(outcome().row()) == OUTCOME_SCHEMA.names
    assert list(label().row()) == LABEL_SCHEMA.names


def test_a_row_tells_the_decision(outcome):
    """Columns over candidates keep the pool's order, refusals become words."""
    row = outcome().row()
    assert row["schema_version"] == SCHEMA_VERSION
    assert row["candidate_ids"] == ("small", "large", "cold")
    assert row["is_available"] == (True, True, False)
    assert row["refusals"] == (None, None, "cold")
    assert (row["policy"], row["propensity"]) == ("explore", 0.1)
    assert row["features"].tolist() == [0.5, -1.5]


def test_a_row_tells_what_happened(outcome):
    """Attempts in order with their errors, then who answered and what it took."""
    row = outcome().row()
    assert [(a["candidate_id"], a["error"]) for a in row["attempts"]] == [
        ("small", "it went away"),
        ("large", None),
    ]
    assert (row["choice"], row["answered_by"], row["status"]) == ("small", "large", "ok")
    assert (row["input_tokens"], row["output_tokens"], row["cost_usd"]) == (120, 8, 0.0003)
    assert row["time_to_first_token_s"] == 1.0


@pytest.fixture
def rejected(outcome):
    """Return the outcome of a request that every candidate refused."""
    nobody = Decision(
        decision_id="d9",
        router_version="",
        feature_schema_hash="",
        candidate_ids=("small",),
        refusals=(Refusal.DENIED,),
    )
    return outcome(
        decision=nobody,
        routing=Routing(),
        attempts=(),
        answered_by=None,
        usage=None,
        timing=Timing(),
        tenant=None,
    )


def test_what_did_not_happen_is_null(rejected):
    """No choice, no answer, no usage, no features: null, never an empty word or a zero."""
    row = rejected.row()
    absent = {name for name, value in row.items() if value is None}
    assert absent == {
        "tenant", "features", "max_cost_usd", "max_latency_s", "choice", "answered_by",
        "time_to_first_token_s", "input_tokens", "output_tokens", "cost_usd",
        "shadow_choice", "shadow_version", "wanted",
    }  # fmt: skip
    assert row["quality_means"] == ()


def test_times_of_two_outcomes_are_their_own(outcome):
    """Timing is filled in as a request goes on; no outcome shares its default."""
    fields = {f.name for f in dataclasses.fields(outcome()) if f.name != "timing"}
    bare = [
        type(outcome())(**{name: getattr(outcome(), name) for name in fields}) for _ in range(2)
    ]
    assert bare[0].timing is not bare[1].timing
