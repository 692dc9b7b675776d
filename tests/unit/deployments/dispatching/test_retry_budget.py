"""Retries stay a share of the requests, whatever fails and in whatever order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.dispatching.retry_budget import RetryBudget, RetryRules

RULES = RetryRules(share=0.2, min_per_s=0.0)


def test_every_fifth_request_pays_for_a_retry():
    """A hundred requests at once, each failing as often as it may: twenty retries."""
    budget = RetryBudget(RULES, 0.0)
    for _ in range(100):
        budget.note_request(0.0)
    assert sum(budget.take(0.0) for _ in range(100)) == 20


def test_few_requests_may_be_retried_too():
    """At rest the budget holds ten seconds of the minimum, and grows by it each second."""
    budget = RetryBudget(RetryRules(share=0.0, min_per_s=1.0, window_s=10.0), 0.0)
    assert sum(budget.take(0.0) for _ in range(100)) == 10
    assert not budget.take(0.5)
    assert budget.take(2.0)
    assert sum(budget.take(1000.0) for _ in range(100)) in (9, 10)


def test_a_budget_is_scarce_below_half_of_its_rest():
    """Or when less than one retry is left."""
    budget = RetryBudget(RetryRules(share=0.0, min_per_s=1.0, window_s=10.0), 0.0)
    assert [budget.take(0.0) and budget.is_scarce(0.0) for _ in range(6)] == 5 * [False] + [True]
    assert not budget.is_scarce(10.0)
    assert RetryBudget(RULES, 0.0).is_scarce(0.0)


def test_old_requests_pay_for_nothing():
    """What a busy hour saved is gone a minute later."""
    budget = RetryBudget(RULES, 0.0)
    for _ in range(1000):
        budget.note_request(0.0)
    assert budget.balance(0.0) == pytest.approx(200.0)
    assert not budget.take(60.0)


def test_a_clock_that_stands_or_turns_back_gives_nothing():
    """Time only passes forward."""
    budget = RetryBudget(RetryRules(share=0.0, min_per_s=1.0, window_s=1.0), 100.0)
    assert budget.take(100.0)
    assert not budget.take(50.0)


steps = st.lists(
    st.tuples(st.floats(0.0, 5.0), st.integers(0, 20), st.integers(0, 5)), max_size=60
)


@given(
    steps=steps,
    share=st.floats(0.0, 1.0),
    min_per_s=st.floats(0.0, 3.0),
    window_s=st.floats(0.5, 30.0),
)
def test_attempts_stay_within_the_budget(steps, share, min_per_s, window_s):
    """Under total failure: share * requests + min_per_s * (time + window), in every history."""
    budget = RetryBudget(RetryRules(share=share, min_per_s=min_per_s, window_s=window_s), 0.0)
    now_s, num_requests, num_retries = 0.0, 0, 0
    for pause_s, new, tries in steps:
        now_s += pause_s
        for _ in range(new):
            budget.note_request(now_s)
        num_requests += new
        num_retries += sum(budget.take(now_s) for _ in range(new * tries))
        assert num_retries <= share * num_requests + min_per_s * (now_s + window_s) + 1e-6
        assert budget.balance(now_s) >= -1e-9
