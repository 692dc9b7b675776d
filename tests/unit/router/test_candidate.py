"""Candidates cost what their price says, and impossible ones are refused."""

import pytest

from router.candidate import Candidate, Price
from router.errors import InvalidInputError

PRICE = Price(input_usd_per_mtok=0.5, output_usd_per_mtok=2.0)


def test_a_call_costs_its_tokens_at_their_prices():
    """1,000 tokens in and 200 out cost (1000 * 0.5 + 200 * 2.0) / 1e6 = 0.0009 USD."""
    assert PRICE.cost_usd(1000, 200) == pytest.approx(0.0009)


def test_a_free_candidate_costs_nothing():
    """Prices may be 0, as on a machine of one's own."""
    assert Price(input_usd_per_mtok=0.0, output_usd_per_mtok=0.0).cost_usd(1e6, 1e6) == 0.0


@pytest.mark.parametrize("name", ["input_usd_per_mtok", "output_usd_per_mtok"])
@pytest.mark.parametrize("value", [-0.1, float("nan")])
def test_an_impossible_price_is_refused(name, value):
    """No call pays the user, and every price can be compared; the field is named."""
    prices = {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 1.0, name: value}
    with pytest.raises(InvalidInputError, match=name) as caught:
        Price(**prices)
    assert caught.value.field == f"price.{name}"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", ""),
        ("context_window", 0),
        ("max_images", -1),
        ("modalities", frozenset({"text", "smell"})),
    ],
)
def test_an_impossible_candidate_is_refused(field, value):
    """The field at fault is named."""
    with pytest.raises(InvalidInputError) as caught:
        Candidate(**{"id": "small", "price": PRICE, field: value})
    assert caught.value.field == field
