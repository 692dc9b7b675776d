"""Cross-fitting: penalties fit the world, and no prediction sees its own row.

Axis legend: N = rows, R = basis functions, M = candidates.
"""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from training.fitting.crossfit import PENALTIES, Crew, Penalties, cross_fit, fit_weights

NUM_ROWS, NUM_FUNCTIONS, NUM_CANDIDATES = 300, 12, 4


def world(difficulty=0.0, difference=0.0, noise=0.1, *, logged=False, seed=0):
    """Return basis, scores, weights and folds of a linear world.

    Args:
        difficulty: Size of the weights that all candidates share.
        difference: Size of each candidate's own weights.
        noise: Spread of single outcomes.
        logged: One outcome per row.
        seed: Of everything.
    """
    rng = np.random.default_rng(seed)
    basis_NR = rng.normal(size=(NUM_ROWS, NUM_FUNCTIONS)).astype(np.float32)
    basis_NR[:, 0] = 1.0
    shared_R1 = difficulty * rng.normal(size=(NUM_FUNCTIONS, 1))
    own_RM = difference * rng.normal(size=(NUM_FUNCTIONS, NUM_CANDIDATES))
    score_NM = 0.5 + basis_NR @ (shared_R1 + own_RM)
    score_NM = score_NM + noise * rng.normal(size=score_NM.shape)
    weight_NM = np.ones_like(score_NM)
    if logged:
        chosen_N = rng.integers(0, NUM_CANDIDATES, NUM_ROWS)
        weight_NM = np.eye(NUM_CANDIDATES)[chosen_N]
        score_NM = np.where(weight_NM > 0, score_NM, np.nan)
    fold_N = rng.permutation(NUM_ROWS) % 5
    return basis_NR, score_NM.astype(np.float32), weight_NM.astype(np.float32), fold_N


def test_where_differences_are_noise_tokens_are_held_back():
    """The shared part is believed, each candidate's own is not."""
    for seed in range(5):
        penalties = cross_fit(*world(difficulty=0.3, noise=0.3, seed=seed)).penalties
        assert penalties.token >= sorted(PENALTIES)[-2]
        assert penalties.difficulty <= 10.0


def test_where_only_candidates_differ_tokens_are_believed():
    """Own weights of 0.3 under noise of 0.1 are followed, and the noise is found again."""
    crossed = cross_fit(*world(difference=0.3))
    assert crossed.penalties.token <= 10.0
    assert crossed.noise_std == pytest.approx(0.1, abs=0.02)


def test_one_outcome_per_row_still_tells_the_penalties_apart():
    """Logged rows choose a small token penalty where candidates differ, a large one where not."""
    own, noise = (
        cross_fit(*world(difficulty=0.1, difference=d, logged=True)).penalties.token
        for d in (0.3, 0.0)
    )
    assert own <= 10.0
    assert noise >= 100.0


@pytest.mark.parametrize("logged", [False, True])
def test_no_row_sees_its_own_label(logged):
    """Turning a row's labels leaves its own prediction, and moves those of other folds."""
    basis_NR, score_NM, weight_NM, fold_N = world(difference=0.05, noise=0.3, logged=logged)
    turned_NM = score_NM.copy()
    turned_NM[7] = 1.0 - score_NM[7]
    one = cross_fit(basis_NR, score_NM, weight_NM, fold_N)
    other = cross_fit(basis_NR, turned_NM, weight_NM, fold_N)
    assert one.penalties == other.penalties
    own_N = fold_N == fold_N[7]
    assert np.allclose(one.quality_NM[own_N], other.quality_NM[own_N], atol=1e-4)
    assert np.abs(one.quality_NM[~own_N] - other.quality_NM[~own_N]).max() > 1e-3


def test_unseen_scores_do_not_matter():
    """Whatever stands where the weight is 0, the predictions are the same and finite."""
    basis_NR, score_NM, weight_NM, fold_N = world(difference=0.2, logged=True)
    filled_NM = np.where(weight_NM > 0, score_NM, np.float32(9.0))
    one = cross_fit(basis_NR, score_NM, weight_NM, fold_N)
    other = cross_fit(basis_NR, filled_NM, weight_NM, fold_N)
    assert np.isfinite(one.quality_NM).all()
    assert np.array_equal(one.quality_NM, other.quality_NM)


def test_the_fit_recovers_the_world():
    """Difficulty and tokens together are the true weights; noise alone is left."""
    basis_NR, score_NM, weight_NM, _ = world(difficulty=0.3, difference=0.3, noise=0.05)
    weights = fit_weights(basis_NR, score_NM, weight_NM, Penalties(0.1, 0.1))
    assert (score_NM - weights.quality(basis_NR)).std() == pytest.approx(0.05, abs=0.01)


def test_a_warm_start_leads_to_the_same_fit():
    """From the weights of another penalty, predictions agree to 0.001."""
    basis_NR, score_NM, weight_NM, _ = world(difficulty=0.3, difference=0.3)
    far = fit_weights(basis_NR, score_NM, weight_NM, Penalties(1.0, 1.0))
    cold, warm = (
        fit_weights(basis_NR, score_NM, weight_NM, Penalties(0.1, 0.1), start)
        for start in (None, far)
    )
    assert np.abs(cold.quality(basis_NR) - warm.quality(basis_NR)).max() < 1e-3


def test_a_crew_of_three_predicts_as_one_worker():
    """Folds are shared, errors agree, and so does what comes out."""
    rows = world(difference=0.2)
    alone = cross_fit(*rows)
    barrier, parts = threading.Barrier(3), {}

    def member(rank):
        def add_up(array):
            parts[rank] = array
            barrier.wait()
            total = sum(parts[r] for r in range(3))
            barrier.wait()
            return total

        return cross_fit(*rows, crew=Crew(rank=rank, size=3, add_up=add_up))

    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(member, range(3)))
    for crossed in found:
        assert crossed.penalties == alone.penalties
        assert np.allclose(crossed.quality_NM, alone.quality_NM, atol=1e-6)


@pytest.mark.parametrize("num_steps", [1, 5, 9])
def test_a_search_goes_on_where_it_was_cut_off(num_steps):
    """Errors that a checkpoint holds are not computed again, and the end is the same."""
    rows = world(difference=0.2)
    whole = Crew()
    expected = cross_fit(*rows, crew=whole)
    kept = dict(list(whole.errors.items())[:num_steps])
    new = []
    resumed = Crew(errors=kept, on_error=lambda: new.append(1))
    crossed = cross_fit(*rows, crew=resumed)
    assert crossed.penalties == expected.penalties
    assert np.allclose(crossed.quality_NM, expected.quality_NM, atol=1e-3)
    assert len(new) == len(whole.errors) - num_steps
