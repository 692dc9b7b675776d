"""A cap holds while requests are on their way."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import InvalidInputError
from training.spend import SpendCap, SpendCapError


def test_a_guess_is_held_until_the_cost_is_known():
    """1.0 in all: 0.6 reserved leaves 0.4; it cost 0.1, so 0.9 are left."""
    spend = SpendCap(1.0)
    spend.reserve(0.6)
    assert spend.left_usd == pytest.approx(0.4)
    with pytest.raises(SpendCapError, match=r"cap of 1 USD is reached.*raise the cap"):
        spend.reserve(0.5)
    spend.settle(0.6, 0.1)
    assert spend.left_usd == pytest.approx(0.9)
    assert spend.spent_usd == pytest.approx(0.1)


def test_what_earlier_runs_spent_counts():
    """A cap is over all runs."""
    spend = SpendCap(1.0, spent_usd=0.95)
    with pytest.raises(SpendCapError):
        spend.reserve(0.1)


def test_without_a_cap_nothing_is_refused():
    """Spending is still counted."""
    spend = SpendCap()
    spend.reserve(1e9)
    spend.settle(1e9, 5.0)
    assert (spend.is_capped, spend.spent_usd) == (False, 5.0)


@pytest.mark.parametrize("cap", [-1.0, float("nan")])
def test_a_cap_below_zero_is_refused(cap):
    """Zero itself is a cap: nothing that costs is asked."""
    with pytest.raises(InvalidInputError):
        SpendCap(cap)
    SpendCap(0.0).reserve(0.0)


@given(st.lists(st.tuples(st.floats(0, 0.5), st.floats(0, 1)), max_size=40))
def test_the_cap_holds_where_no_request_costs_more_than_guessed(requests):
    """Whatever the order, spending stays under the cap."""
    spend = SpendCap(1.0)
    for guess, share in requests:
        try:
            spend.reserve(guess)
        except SpendCapError:
            continue
        spend.settle(guess, guess * share)
    assert spend.spent_usd <= 1.0 + 1e-9


async def test_a_request_waits_for_those_on_their_way():
    """The first guess of 0.8 costs 0.1 in the end, and then a second one fits under 1.0."""
    spend = SpendCap(1.0)
    guesses = iter([0.8, 0.3])
    await spend.claim(lambda: 0.8)
    waiting = asyncio.create_task(spend.claim(lambda: next(guesses)))
    await asyncio.sleep(0)
    assert not waiting.done()
    spend.settle(0.8, 0.1)
    assert await waiting == 0.3


async def test_with_nothing_on_its_way_a_request_does_not_wait():
    """No room will come."""
    with pytest.raises(SpendCapError):
        await SpendCap(1.0).claim(lambda: 1.1)
