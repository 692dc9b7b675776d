"""Utility is quality less weighted cost and latency, in fixed units."""

import numpy as np
import pytest

from router.records import Routing
from router.utility import Reference, utilities

QUALITY_M = np.array([0.5, 0.8])
COST_USD_M = np.array([0.001, 0.004])
LATENCY_S_M = np.array([1.0, 3.0])
REFERENCE = Reference(cost_usd=0.004, latency_s=2.0)


@pytest.mark.parametrize(
    ("routing", "expected_M"),
    [
        (Routing(), [0.5, 0.8]),
        (Routing(cost_weight=0.4), [0.5 - 0.4 * 0.25, 0.8 - 0.4 * 1.0]),
        (Routing(latency_weight=0.2), [0.5 - 0.2 * 0.5, 0.8 - 0.2 * 1.5]),
        (Routing(cost_weight=0.4, latency_weight=0.2), [0.3, 0.1]),
    ],
)
def test_utility_in_worked_sums(routing, expected_M):
    """Costs are 0.25 and 1 reference, latencies 0.5 and 1.5; 0.5 - 0.1 - 0.1 = 0.3 with both."""
    utility_M = utilities(QUALITY_M, COST_USD_M, LATENCY_S_M, routing, REFERENCE)
    assert utility_M == pytest.approx(np.array(expected_M))


def test_a_weight_turns_the_order():
    """The better candidate is chosen until its price weighs more than its quality."""
    quality, thrift = (
        utilities(QUALITY_M, COST_USD_M, LATENCY_S_M, Routing(cost_weight=w), REFERENCE)
        for w in (0.3, 0.5)
    )
    assert quality.argmax() == 1
    assert thrift.argmax() == 0


@pytest.mark.parametrize(
    ("wish", "best"), [({}, 0), ({"cost_weight": 0.1}, 1), ({"latency_weight": 0.1}, 1)]
)
def test_a_floor_alone_asks_for_the_cheapest(wish, best):
    """Above the floor money decides, unless the request weighs cost or latency itself."""
    routing = Routing(max_quality_drop=0.5, **wish)
    assert utilities(QUALITY_M, COST_USD_M, LATENCY_S_M, routing, REFERENCE).argmax() == best


@pytest.mark.parametrize(
    "figures", [{"cost_usd": 0.0}, {"latency_s": 0.0}, {"cost_usd": -1.0}, {"cost_usd": np.nan}]
)
def test_a_reference_that_cannot_divide_is_refused(figures):
    """Both units are positive; the message holds the values."""
    with pytest.raises(ValueError, match="references must be positive, got"):
        Reference(**figures)
