"""Growth is told from levels, and from what fills up at the start."""

import pytest

from infra.evidence.serving.resources import MIN_SAMPLES, WARM_UP_S, Sample, quarters, slope


def life(start_s, level_mb, growth_mb_per_s, num=40):
    """Return the samples of a process, one every ten seconds."""
    return [
        Sample(start_s + 10.0 * n, level_mb + growth_mb_per_s * 10.0 * n, 20, 7)
        for n in range(num)
    ]


def test_each_process_has_a_level_of_its_own():
    """A successor that begins larger is no growth."""
    lives = [life(0.0, 100.0, 0.01), life(400.0, 300.0, 0.01)]
    assert slope(lives, "rss_mb") == pytest.approx(0.01)
    assert slope(lives, "num_fds") == 0.0


def test_what_fills_up_at_the_start_does_not_count():
    """Nor does a process that lived too briefly to tell."""
    steady = [Sample(10.0 * n, min(n * 50.0, 300.0), 20, 7) for n in range(40)]
    assert WARM_UP_S >= 60.0
    assert slope([steady], "rss_mb") == pytest.approx(0.0)
    assert slope([life(0.0, 1.0, 1.0, num=MIN_SAMPLES)], "rss_mb") == 0.0


def test_the_quarters_of_a_life_tell_a_step_from_a_slope():
    """Each is a mean, of what follows the warm-up alone."""
    num = int(WARM_UP_S / 10.0)
    step = [
        Sample(10.0 * n, 50.0 if n < num else 300.0, 20, 7 + (n >= 20)) for n in range(num + 40)
    ]
    told = quarters(step)
    assert [one["rss_mb"] for one in told] == [300.0] * 4
    assert [one["num_threads"] for one in told] == pytest.approx([7.0, 7.6, 8.0, 8.0])
