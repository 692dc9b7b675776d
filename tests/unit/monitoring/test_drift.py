"""Drift is found where there is one, and not where there is none."""

import numpy as np
import pytest

from monitoring.drift import DriftTest, population_stability_index
from router.errors import InvalidInputError


def rate(num, horizon, *, shift=0.0, after=0, alpha=0.05, levels=None):
    """Return the share of streams in which a drift is found, and the median delay."""
    delays = []
    for seed in range(num):
        rng = np.random.default_rng(seed)
        value_N = rng.normal(size=500 + horizon)
        value_N[500 + after :] += shift
        if levels:
            value_N = np.round(value_N * levels) / levels
        test = DriftTest(value_N[:500], generator=rng, alpha=alpha)
        if test.extend(value_N[500:]):
            delays.append(test.num_seen - after)
    return len(delays) / num, float(np.median(delays)) if delays else float("nan")


def test_the_same_stream_raises_no_alarm():
    """Read after each of 2,000 values, alpha 0.05 and two standard errors of it; ties or none."""
    for levels in (None, 2):
        assert rate(60, 2000, levels=levels)[0] <= 0.05 + 2 * (0.05 * 0.95 / 60) ** 0.5


@pytest.mark.parametrize(
    ("shift", "after", "within"), [(1.0, 0, 150), (0.5, 0, 500), (1.0, 1000, 400)]
)
def test_a_shifted_stream_is_found(shift, after, within):
    """At once or later; the delays are printed."""
    found, delay = rate(20, after + 1500, shift=shift, after=after)
    print(f"shift {shift} after {after}: found {found:.0%}, median delay {delay:.0f} values")  # noqa: T201 - seen with -s
    assert found >= 0.95
    assert delay <= within


def test_the_index_in_worked_sums():
    """Two classes, 50 and 50 against 25 and 75, half a count added to each.

    p = 1/2, q = 25.5/101 and 75.5/101: 2 * 0.24752 * ln(2.9608) / 2 = 0.26869.
    """
    reference, current = np.repeat([0.0, 1.0], 50), np.repeat([0.0, 1.0], [25, 75])
    index = population_stability_index(reference, current, num_classes=2)
    assert index == pytest.approx(0.26869, abs=1e-4)


def test_the_index_of_equal_samples_is_small():
    """About 2 * 9 / 2,000 without drift; far above 0.25 for a shift of one deviation."""
    rng = np.random.default_rng(0)
    reference, same = rng.normal(size=2000), rng.normal(size=2000)
    assert population_stability_index(reference, same) < 0.03
    assert population_stability_index(reference, same + 1.0) > 0.25


@pytest.mark.parametrize("sample", [[], [np.nan], [[0.0]]])
def test_samples_that_say_nothing_are_refused(sample):
    """Empty, not finite, or no list."""
    with pytest.raises(InvalidInputError):
        population_stability_index([0.0, 1.0], sample)


def test_a_test_needs_a_reference():
    """Ninety-nine values are too few, and alpha is a probability."""
    rng = np.random.default_rng(0)
    with pytest.raises(InvalidInputError, match="at least 100"):
        DriftTest([0.0] * 99, generator=rng)
    with pytest.raises(InvalidInputError, match="alpha"):
        DriftTest([0.0] * 100, generator=rng, alpha=1.0)
