"""The sweep over cost weights is made of plain means."""

import pytest

from infra.asking import Ask, Asked
from infra.demo import COST_WEIGHTS, _point
from infra.zoo.questions import generate


def test_a_point_is_the_mean_cost_and_quality():
    """Four answers at 1, 2, 3 and 6 mUSD, three of them right: 3 mUSD and 0.75."""
    (question,) = generate(1, seed=0)
    answers = [
        Asked(
            ask=Ask(question=question),
            decision_id="dec_0",
            answered_by="any",
            reply="",
            score=score,
            cost_usd=cost_usd,
            latency_s=1.0,
        )
        for score, cost_usd in ((1.0, 0.001), (1.0, 0.002), (0.0, 0.003), (1.0, 0.006))
    ]
    assert _point(0.4, answers) == (0.4, pytest.approx(0.003), 0.75)


def test_the_sweep_begins_where_cost_does_not_matter():
    """Its first point is the comparison's own ``auto``, asked once; the rest rise."""
    assert COST_WEIGHTS[0] == 0.0
    assert list(COST_WEIGHTS) == sorted(set(COST_WEIGHTS))
