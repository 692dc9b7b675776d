"""A decision that cannot be one is told from one that can, and each failure has a word."""

import dataclasses
from math import inf, nan

import pytest

from deployments.fail_open import (
    RouterGoneError,
    RouterRestsError,
    UnsoundDecisionError,
    check_decision,
    reason_of,
)
from deployments.router_deployment import NoRouterError
from router.records import Decision, Refusal

SOUND = Decision(
    decision_id="d",
    router_version="7",
    feature_schema_hash="f",
    candidate_ids=("a", "b"),
    refusals=(None, Refusal.NO_PROFILE),
    quality_means=(0.5, nan),
    quality_stds=(0.1, nan),
    costs_usd=(0.0, nan),
    latencies_s=(1.0, nan),
    utilities=(0.5, nan),
    choice="a",
    propensity=1.0,
    propensities=(1.0, 0.0),
)


def test_a_masked_candidate_may_have_no_score():
    """It has no profile to be scored by."""
    assert check_decision(SOUND) is SOUND


def test_a_decision_before_any_version_predicts_nothing():
    """A cold start draws with known chances and has no scores."""
    cold = dataclasses.replace(SOUND, router_version="", quality_means=(), utilities=())
    assert check_decision(cold) is cold


@pytest.mark.parametrize(
    "changes",
    [
        {"utilities": (nan, nan)},
        {"utilities": (inf, nan)},
        {"quality_means": (nan, nan)},
        {"choice": "b"},
        {"choice": "c"},
        {"propensity": nan},
        {"propensity": 0.0},
        {"refusals": (None, None)},
    ],
)
def test_a_decision_on_no_number_is_refused(changes):
    """NaN and infinity of whoever is available, a masked choice, no propensity."""
    with pytest.raises(UnsoundDecisionError):
        check_decision(dataclasses.replace(SOUND, **changes))


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UnsoundDecisionError("x"), "unsound"),
        (RouterRestsError("x"), "rests"),
        (RouterGoneError("x"), "gone"),
        (TimeoutError(), "hung"),
        (NoRouterError("x"), "no_version"),
        (ZeroDivisionError(), "raised"),
    ],
)
def test_each_failure_has_a_word(error, reason):
    """By which it is counted."""
    assert reason_of(error) == reason
