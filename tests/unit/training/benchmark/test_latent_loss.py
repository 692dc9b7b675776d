"""The loss: exact sums, observed entries alone, finite whatever is missing."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from router.errors import InvalidInputError
from training.benchmark.rivals.latent_loss import (
    LossWeights,
    Prediction,
    Targets,
    listwise_loss,
    pairwise_loss,
    router_loss,
)


def prediction_of(mean, std=0.5, mu=None, correction=0.0):
    """Return a prediction with gradients."""
    mean_BM = torch.tensor(mean, requires_grad=True)
    mu_BM = torch.tensor(mean if mu is None else mu)
    return Prediction(
        mean_BM, torch.full_like(mean_BM, std), mu_BM, torch.full_like(mean_BM, correction)
    )


def targets_of(quality, weight=None, penalty=0.0):
    """Return targets that are observed where the quality is not NaN."""
    quality_BM = torch.tensor(quality)
    weight_BM = torch.ones_like(quality_BM) if weight is None else torch.tensor(weight)
    return Targets(
        quality_BM, torch.full_like(quality_BM, penalty), ~quality_BM.isnan(), weight_BM
    )


def test_gaussian_term():
    """((1-0.8)/0.5)²/2 + ln 0.5 = 0.08 - 0.6931 = -0.6131."""
    losses = router_loss(prediction_of([[0.8]]), targets_of([[1.0]]), LossWeights())
    assert losses.nll.item() == pytest.approx(0.08 + math.log(0.5), abs=1e-6)


def test_weights_are_self_normalised():
    """Errors 0.2² with weight 3 and 0.4² with weight 1: (3*0.04 + 1*0.16)/4 = 0.07."""
    prediction = prediction_of([[0.8], [0.4]])
    targets = targets_of([[1.0], [0.0]], weight=[[3.0], [1.0]])
    losses = router_loss(prediction, targets, LossWeights())
    assert losses.quality.item() == pytest.approx(0.07)
    assert losses.utility.item() == pytest.approx(0.07)


def test_pairwise_term():
    """Scores 1 and 0: ln(1+e^-1) = 0.3133 if the first is better, else ln(1+e) = 1.3133."""
    score_BM, ones_BM = torch.tensor([[1.0, 0.0]]), torch.ones(1, 2)
    right = pairwise_loss(score_BM, torch.tensor([[1.0, 0.0]]), ones_BM)
    wrong = pairwise_loss(score_BM, torch.tensor([[0.0, 1.0]]), ones_BM)
    assert right.item() == pytest.approx(0.31326, abs=1e-5)
    assert wrong.item() == pytest.approx(1.31326, abs=1e-5)


def test_ties_rank_nobody():
    """Equal utilities form no pair."""
    loss = pairwise_loss(torch.tensor([[1.0, 0.0]]), torch.ones(1, 2), torch.ones(1, 2))
    assert loss.item() == 0.0


def test_listwise_term():
    """Targets (0, ln 3) -> (1/4, 3/4); scores (0, 0) -> (1/2, 1/2): cross entropy ln 2."""
    loss = listwise_loss(
        torch.zeros(1, 3), torch.tensor([[0.0, math.log(3), 9.0]]), torch.tensor([[1.0, 1, 0]])
    )
    assert loss.item() == pytest.approx(math.log(2))


def test_total_is_the_weighted_sum():
    """The paper's weights: 1, 0.35, 0.65, 0.25, 0.10, 0.05."""
    prediction = prediction_of([[0.8, 0.3]], mu=[[0.7, 0.3]], correction=0.05)
    losses = router_loss(prediction, targets_of([[1.0, 0.0]]), LossWeights())
    assert losses.correction.item() == pytest.approx(0.0025)
    expected = (
        losses.nll
        + 0.35 * losses.pairwise
        + 0.65 * losses.listwise
        + 0.25 * losses.utility
        + 0.10 * losses.quality
        + 0.05 * losses.correction
    )
    assert losses.total.item() == pytest.approx(expected.item())


def test_a_penalty_turns_the_ranking():
    """Equal quality: the candidate with the lower predicted penalty is the better of the pair."""
    targets = targets_of([[1.0, 1.0]])._replace(penalty_BM=torch.tensor([[0.0, 0.5]]))
    losses = router_loss(prediction_of([[0.5, 0.5]]), targets, LossWeights())
    # Scores 0.5 and 0.0 over temperature 0.25: ln(1 + e^-2).
    assert losses.pairwise.item() == pytest.approx(math.log1p(math.exp(-2)))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.lists(st.sampled_from([0.0, 0.5, 1.0, float("nan")]), min_size=3, max_size=3),
        min_size=1,
        max_size=4,
    )
)
def test_any_pattern_of_labels_gives_finite_losses_and_gradients(quality):
    """Rows with one label or none included."""
    prediction = prediction_of([[0.2, 0.5, 1.0]] * len(quality))
    losses = router_loss(prediction, targets_of(quality), LossWeights())
    losses.total.backward()
    assert all(term.isfinite() for term in losses)
    gradient_BM = prediction.mean_BM.grad
    assert gradient_BM.isfinite().all()
    assert (gradient_BM[torch.tensor(quality).isnan()] == 0).all()


@pytest.mark.parametrize("change", [{"nll": -1.0}, {"target_temperature": 0.0}])
def test_weights_that_cannot_weigh_are_refused(change):
    """Negative weights and zero temperatures are errors."""
    with pytest.raises(InvalidInputError, match=next(iter(change))):
        LossWeights(**change)
