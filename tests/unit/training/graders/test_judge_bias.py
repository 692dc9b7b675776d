"""A judge is measured against gold, and then corrected or refused.

Axis legend: N = replies.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from router.errors import InvalidInputError
from training.graders.judge_bias import JudgeRefusedError, bias_correction, judge_bias


def kind_judge(num=4000, *, too_kind=0.2, seed=0):
    """Return binary scores of a judge that calls a share of wrong replies right, and gold."""
    rng = np.random.default_rng(seed)
    gold_N = rng.integers(0, 2, num).astype(float)
    fooled_N = (gold_N == 0) & (rng.random(num) < too_kind)
    return np.where(fooled_N, 1.0, gold_N), gold_N


def test_figures_of_a_small_table():
    """Ten replies, judge right on 8, too kind on 2: bias .2, agreement .8, kappa .6.

    Chance agrees on .7 * .5 + .3 * .5 = .5, so kappa is (.8 - .5) / .5.
    """
    gold = [1, 1, 1, 1, 1, 0, 0, 0, 0, 0]
    judge = [1, 1, 1, 1, 1, 1, 1, 0, 0, 0]
    bias = judge_bias(judge, gold)
    assert bias.num_gold == 10
    assert bias.mean == pytest.approx(0.2)
    assert bias.agreement == pytest.approx(0.8)
    assert bias.kappa == pytest.approx(0.6)
    assert bias.low < 0.2 < bias.high


def test_kappa_is_that_of_scikit_learn():
    """On binary scores."""
    judge_N, gold_N = kind_judge(500)
    assert judge_bias(judge_N, gold_N).kappa == pytest.approx(cohen_kappa_score(judge_N, gold_N))


def test_kappa_is_left_out_where_it_says_nothing():
    """Graded scores, and one word for everything."""
    assert judge_bias([0.5, 1.0], [0.0, 1.0]).kappa is None
    assert judge_bias([1, 1], [1, 1]).kappa is None


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=40))
def test_figures_are_bounded(pairs):
    """Interval within -1 to 1 and never of no width."""
    judge, gold = zip(*pairs, strict=True)
    bias = judge_bias(judge, gold)
    assert -1 <= bias.low < bias.high <= 1
    assert -1 <= bias.mean <= 1
    assert 0 <= bias.agreement <= 1


@pytest.mark.parametrize("num", [30, 80])
def test_the_interval_covers_the_true_bias(num):
    """About 95 % of 400 samples hold the true bias of 0.1."""
    biases = [judge_bias(*kind_judge(num, seed=seed)) for seed in range(400)]
    covered = sum(bias.low <= 0.1 <= bias.high for bias in biases) / 400
    assert covered == pytest.approx(0.95, abs=0.03)


def test_no_disagreement_in_five_is_no_certainty():
    """The interval is as wide as five replies allow."""
    bias = judge_bias([1, 0, 1, 0, 1], [1, 0, 1, 0, 1])
    assert bias.mean == 0.0
    assert bias.high - bias.low > 0.4


def test_a_correction_takes_the_bias_off_fresh_replies():
    """Fitted on one half, the other half's mean bias falls from 0.1 to below 0.02."""
    judge_N, gold_N = kind_judge()
    correction = bias_correction(judge_bias(judge_N[:2000], gold_N[:2000]))
    fixed_N = np.array([correction.apply(score) for score in judge_N[2000:]])
    assert judge_bias(judge_N[2000:], gold_N[2000:]).mean == pytest.approx(0.1, abs=0.02)
    assert abs((fixed_N - gold_N[2000:]).mean()) < 0.02


def test_a_binary_judge_is_corrected_to_the_share_that_is_right():
    """Of 7 called right 5 are: 5/7; of 3 called wrong none is: 0."""
    bias = judge_bias([1] * 7 + [0] * 3, [1] * 5 + [0] * 5)
    correction = bias_correction(bias, max_bias=0.2, min_gold=10)
    assert correction.apply(1.0) == pytest.approx(5 / 7)
    assert correction.apply(0.0) == pytest.approx(0.0)


def test_corrected_scores_stay_scores():
    """Clipped to 0 to 1."""
    bias = judge_bias([0.4, 0.6] * 20, [0.0, 1.0] * 20)
    correction = bias_correction(bias)
    assert (correction.apply(0.0), correction.apply(1.0)) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("judge", "gold", "reason"),
    [
        ([1, 0] * 10, [1, 0] * 10, "measured on 20 gold labels; give at least 30"),
        ([1] * 40, [1, 0] * 20, r"off by \+0.500"),
        ([0] * 40, [1, 0] * 20, r"off by -0.500"),
        ([0, 1] * 20, [1, 0] * 20, "do not rise with gold"),
        ([0.5] * 40, [1, 0] * 20, "do not rise with gold"),
    ],
)
def test_a_judge_beyond_mending_is_refused(judge, gold, reason):
    """Too little known, too kind, too harsh, upside down, the same word for all."""
    with pytest.raises(JudgeRefusedError, match=reason):
        bias_correction(judge_bias(judge, gold))


@pytest.mark.parametrize(
    ("judge", "gold"), [([], []), ([1], [1, 0]), ([1.1], [1]), ([1], [float("nan")]), ([[1]], [1])]
)
def test_scores_that_are_no_pairs_are_refused(judge, gold):
    """None, of two lengths, out of bounds."""
    with pytest.raises(InvalidInputError):
        judge_bias(judge, gold)
