"""When a retrain is due, by hand-made signs and a clock that is passed in."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import InvalidInputError
from training.jobs.triggers import (
    MIN_DRIFT_ROWS,
    Reason,
    Rules,
    Signs,
    cron_due,
    feature_drift,
    first_due,
    own_profiles,
    unprofiled,
)

NIGHT = "0 3 * * *"
THREE = datetime(2026, 3, 2, 3, tzinfo=UTC)
DAY = timedelta(days=1)


def signs(**changes):
    """Return signs of a quiet morning, two hours after the last run."""
    quiet = {"now": THREE + timedelta(hours=2), "since": THREE}
    return Signs(**quiet | changes)


def reason_of(rules, **changes):
    """Return the reason that holds, or None."""
    trigger = first_due(rules, signs(**changes))
    return None if trigger is None else trigger.reason


@pytest.mark.parametrize(
    ("since", "now", "is_due"),
    [
        (THREE - DAY, THREE - timedelta(seconds=1), False),
        (THREE - DAY, THREE, True),
        (THREE - timedelta(seconds=1), THREE, True),
        (THREE, THREE + timedelta(hours=23), False),
        (THREE - 5 * DAY, THREE + timedelta(hours=6), True),
    ],
)
def test_a_scheduled_time_is_due_once_it_has_passed(since, now, is_due):
    """From its very second on, until a run began at it or later; missed ones count as one."""
    assert (cron_due(NIGHT, since=since, now=now) is not None) == is_due


@given(after_s=st.integers(0, 40_000_000), waited_s=st.integers(0, 400_000))
def test_a_run_that_begins_when_it_is_due_is_not_due_again(after_s, waited_s):
    """Whatever the times, the same scheduled time starts one run."""
    since = THREE + timedelta(seconds=after_s)
    now = since + timedelta(seconds=waited_s)
    if cron_due(NIGHT, since=since, now=now):
        assert cron_due(NIGHT, since=now, now=now) is None
    else:
        assert waited_s < DAY.total_seconds()


def test_enough_labels_are_a_reason_and_one_less_is_none():
    """The number that is asked for suffices."""
    rules = Rules(min_labels=2000)
    assert reason_of(rules, num_labels=1999) is None
    assert reason_of(rules, num_labels=2000) is Reason.LABELS


def test_drift_is_a_reason_above_its_limit():
    """Not at it, and not where it could not be told."""
    rules = Rules(max_drift=0.2)
    assert reason_of(rules, drift=None) is None
    assert reason_of(rules, drift=0.2) is None
    assert reason_of(rules, drift=0.21) is Reason.DRIFT


def test_what_is_switched_off_never_is_a_reason():
    """Rules of None wait for ever, but for newcomers."""
    assert reason_of(Rules(), num_labels=10**9, drift=9.0, now=THREE + 400 * DAY) is None
    assert reason_of(Rules(), newcomers=("aster",)) is Reason.NEWCOMER


def test_the_pause_holds_back_all_but_the_cron():
    """A run that just began is not followed by another for its labels, but by a scheduled one."""
    rules = Rules(cron=NIGHT, min_labels=1, max_drift=0.1, min_pause_s=3600)
    just_now = {"since": THREE - timedelta(minutes=20), "now": THREE - timedelta(minutes=1)}
    many = {"num_labels": 10**6, "drift": 9.0, "newcomers": ("aster",)}
    assert reason_of(rules, **just_now, **many) is None
    assert reason_of(rules, **just_now | {"now": THREE}, **many) is Reason.CRON
    assert reason_of(rules, **just_now, **many, has_run=False) is Reason.NEWCOMER


@pytest.mark.parametrize(
    "bad",
    [
        {"cron": "0 3 * *"},
        {"cron": "@daily"},
        {"cron": "61 * * * *"},
        {"min_labels": 0},
        {"max_drift": 0.0},
        {"max_drift": float("nan")},
        {"min_pause_s": -1.0},
    ],
)
def test_rules_that_make_no_sense_are_refused_by_name(bad):
    """The error names the field."""
    with pytest.raises(InvalidInputError) as caught:
        Rules(**bad)
    assert caught.value.field == next(iter(bad))


def test_newcomers_are_told_apart_by_their_profiles():
    """None at all; one of their own; one that came out of a training with all others."""
    served, profiles = ["aster", "birch", "cedar"], {"birch": True, "cedar": False, "gone": True}
    assert unprofiled(served, profiles) == ["aster"]
    assert own_profiles(served, profiles) == ("birch",)


def traffic(seed, num_rows=MIN_DRIFT_ROWS, shift=0.0):
    """Return features with a few strong directions, the first of them moved."""
    rng = np.random.default_rng(seed)
    features_NF = rng.normal(size=(num_rows, 200)) / np.sqrt(1 + np.arange(200))
    features_NF[:, 0] += shift
    return features_NF.astype(np.float32)


@pytest.mark.parametrize("seed", range(5))
def test_the_same_traffic_has_not_drifted_and_a_moved_one_has(seed):
    """Around the usual limit of 0.2, with as few rows as are looked at."""
    reference_NF = traffic(seed)
    assert feature_drift(reference_NF, traffic(seed + 100)) < 0.2
    assert feature_drift(reference_NF, traffic(seed + 100, shift=1.0)) > 0.2


def test_too_few_queries_tell_no_drift():
    """On either side."""
    few_NF = traffic(0, num_rows=MIN_DRIFT_ROWS - 1)
    assert feature_drift(few_NF, traffic(1)) is None
    assert feature_drift(traffic(1), few_NF) is None
