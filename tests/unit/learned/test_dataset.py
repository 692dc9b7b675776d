"""Training sets: available and observed are two things, and groups stay whole."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import InvalidInputError
from training.data.dataset import TrainingSet
from training.fitting.policy_value import greedy, policy_value, softened, uniform


def test_one_outcome_rows_are_not_full_information(world):
    """A logged row has one observed score although all four were available."""
    logged, _ = world.make(50, logged=True)
    full, _ = world.make(50)
    assert (logged.observed().sum(axis=1) == 1).all()
    assert not logged.full_information().any()
    assert full.full_information().all()
    assert logged.num_observed().sum() == len(logged)


@given(st.integers(0, 1000))
def test_groups_stay_whole_in_splits_and_folds(world, seed):
    """No group lies on two sides, and no row is lost."""
    training_set, _ = world.make(60)
    grouped = dataclasses.replace(training_set, group_N=np.arange(60) // 4)
    parts = grouped.split(train=0.6, validation=0.2, seed=seed)
    groups = [set(part.group_N.tolist()) for part in parts]
    assert sum(len(part) for part in parts) == 60
    assert not (groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2])
    fold_N = grouped.folds(3, seed)
    assert all(len(set(fold_N[grouped.group_N == group])) == 1 for group in range(15))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("score_NM", 2.0, "0 to 1"),
        ("propensity_NM", 0.0, "propensity"),
        ("available_NM", False, "must be available"),
        ("features_NF", np.nan, "finite"),
    ],
)
def test_contradictions_are_refused(world, name, value, message):
    """Labels, chances and masks must agree."""
    training_set, _ = world.make(5)
    broken = getattr(training_set, name).copy()
    broken[0, 0] = value
    with pytest.raises(InvalidInputError, match=message):
        dataclasses.replace(training_set, **{name: broken})


def test_misshapen_columns_and_shares_are_refused(world):
    """Shape, unique names and shares are checked."""
    training_set, _ = world.make(5)
    with pytest.raises(InvalidInputError, match="group_N"):
        dataclasses.replace(training_set, group_N=np.arange(4))
    with pytest.raises(InvalidInputError, match="unique"):
        dataclasses.replace(training_set, candidate_ids=("a", "a", "b", "c"))
    with pytest.raises(InvalidInputError, match="shares"):
        training_set.split(train=0.9, validation=0.2, seed=0)


def test_policy_value_is_worked_out():
    """Weights 2 and 4 on values 1 and 0 that the policy meets: 2 / 6 = 1/3."""
    policy_NM = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    value_NM = np.array([[1.0, np.nan], [np.nan, 0.0], [np.nan, 1.0]])
    weight_NM = np.array([[2.0, 0.0], [0.0, 4.0], [0.0, 1.0]])
    assert policy_value(policy_NM, value_NM, weight_NM) == pytest.approx(1 / 3)
    assert np.isnan(policy_value(policy_NM, value_NM, np.zeros((3, 2))))


def test_policies_stay_inside_the_mask():
    """Greedy, softened and uniform policies give nothing to the masked, nor to empty rows."""
    score_NM = np.array([[0.9, 0.5, 0.1], [0.2, 0.3, 0.4]])
    available_NM = np.array([[False, True, True], [False, False, False]])
    assert greedy(score_NM, available_NM).tolist() == [[0, 1, 0], [0, 0, 0]]
    assert uniform(available_NM).tolist() == [[0, 0.5, 0.5], [0, 0, 0]]
    with np.errstate(all="raise", under="ignore"):
        soft_NM = softened(score_NM, available_NM, 0.1)
    assert soft_NM[0].sum() == pytest.approx(1.0)
    assert soft_NM[0, 0] == 0
    assert (soft_NM[1] == 0).all()


def test_rows_of_which_only_scores_are_known():
    """Who has a score was asked for certain; the others were not there."""
    score_NM = np.array([[1.0, np.nan], [0.0, 0.5]], dtype=np.float32)
    rows = TrainingSet.of_scores(
        np.zeros((2, 3), dtype=np.float32), ("a", "b"), score_NM, num_chars_N=np.array([7, 8])
    )
    assert rows.available_NM.tolist() == [[True, False], [True, True]]
    assert np.array_equal(rows.propensity_NM, [[1.0, np.nan], [1.0, 1.0]], equal_nan=True)
    assert np.isnan(rows.latency_s_NM).all()
    assert (rows.num_chars_N.tolist(), rows.group_N.tolist()) == ([7, 8], [0, 1])
