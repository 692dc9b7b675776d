"""Ridge: many candidates at once come out as each would alone, by the normal equations.

Axis legend: N = rows, R = basis functions, M = candidates.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from router.ridge import solve_ridge


def problem(seed, num_rows=40, num_functions=6, num_candidates=3, seen_share=0.7):
    """Return a basis, targets with NaN gaps, weights and penalties."""
    rng = np.random.default_rng(seed)
    basis_NR = rng.normal(size=(num_rows, num_functions)).astype(np.float32)
    shape = (num_rows, num_candidates)
    seen_NM = rng.random(shape) < seen_share
    target_NM = np.where(seen_NM, rng.random(shape), np.nan).astype(np.float32)
    weight_NM = np.where(seen_NM, rng.uniform(0.1, 3.0, shape), 0.0).astype(np.float32)
    penalty_R = rng.uniform(0.5, 20.0, num_functions).astype(np.float32)
    return basis_NR, target_NM, weight_NM, penalty_R


def by_normal_equations(basis_NR, target_NM, weight_NM, penalty_R):
    """Solve one candidate after another in double precision."""
    basis_NR = basis_NR.astype(np.float64)
    columns = []
    for target_N, weight_N in zip(target_NM.T, weight_NM.T, strict=True):
        known_N = np.where(weight_N > 0, target_N, 0.0)
        left_RR = basis_NR.T @ (weight_N[:, None] * basis_NR) + np.diag(penalty_R)
        columns.append(np.linalg.solve(left_RR, basis_NR.T @ (weight_N * known_N)))
    return np.column_stack(columns)


shapes = st.tuples(st.integers(0, 1000), st.integers(1, 60), st.integers(1, 12), st.integers(1, 5))


@settings(deadline=None)
@given(shapes, st.sampled_from([0.0, 0.2, 0.7, 1.0]))
def test_it_solves_the_normal_equations(shape, seen_share):
    """Gaps, weights and unequal penalties, down to one row and to none that was seen."""
    parts = problem(*shape, seen_share)
    found_RM = solve_ridge(*parts)
    assert found_RM.dtype == np.float32
    assert np.allclose(found_RM, by_normal_equations(*parts), atol=1e-3)


@settings(deadline=None)
@given(shapes, st.floats(-3.0, 3.0))
def test_a_guess_changes_the_way_and_not_the_answer(shape, guess):
    """Near or far, it leads to the same weights and is itself left as it was."""
    parts = problem(*shape)
    exact_RM = by_normal_equations(*parts)
    start_RM = (exact_RM + guess).astype(np.float32)
    before_RM = start_RM.copy()
    assert np.allclose(solve_ridge(*parts, start_RM=start_RM), exact_RM, atol=1e-3)
    assert np.array_equal(start_RM, before_RM)


@pytest.mark.parametrize("penalty", [0.1, 1.0, 100.0])
def test_it_agrees_with_scikit_learn(penalty):
    """One penalty for all weights and sample weights, without an intercept."""
    basis_NR, target_NM, weight_NM, _ = problem(3, num_rows=200, seen_share=1.0)
    penalty_R = np.full(basis_NR.shape[1], penalty, dtype=np.float32)
    found_RM = solve_ridge(basis_NR, target_NM, weight_NM, penalty_R)
    for m in range(target_NM.shape[1]):
        peer = Ridge(alpha=penalty, fit_intercept=False)
        peer.fit(basis_NR, target_NM[:, m], sample_weight=weight_NM[:, m])
        assert np.allclose(found_RM[:, m], peer.coef_, atol=1e-3)


def test_a_candidate_moves_no_other():
    """Solved alone or beside others, with nobody seen among them, it gets the same weights."""
    basis_NR, target_NM, weight_NM, penalty_R = problem(1, num_candidates=4)
    weight_NM[:, 3] = 0.0
    together_RM = solve_ridge(basis_NR, target_NM, weight_NM, penalty_R)
    alone_R1 = solve_ridge(basis_NR, target_NM[:, :1], weight_NM[:, :1], penalty_R)
    assert np.allclose(together_RM[:, :1], alone_R1, atol=1e-3)
    assert (together_RM[:, 3] == 0).all()
