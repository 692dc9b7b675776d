"""LatentRouter as published: its network, its profiles and what early stopping looks at."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from router.errors import InvalidInputError
from training.benchmark.rivals.latent_loss import Targets
from training.benchmark.rivals.latent_network import LatentConfig, LatentNetwork, PairBias
from training.benchmark.rivals.latent_profile import pool_profiles, standardised
from training.benchmark.rivals.latent_router import greedy_utility

QUERY_WIDTH = 20
PROFILE_WIDTH = 12
ABLATIONS = ({"num_rounds": 0}, {"num_capsules": 0}, {"correction_bound": 0.0})


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def network_of(**change):
    """Return a network of fixed weights in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LatentNetwork(QUERY_WIDTH, PROFILE_WIDTH, LatentConfig(**change)).eval()


def inputs(num_queries=3, num_candidates=5, seed=0):
    """Return queries, profiles, costs and a full mask."""
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(num_queries, QUERY_WIDTH, generator=generator),
        torch.rand(num_candidates, PROFILE_WIDTH, generator=generator),
        torch.rand(num_queries, num_candidates, generator=generator),
        torch.ones(num_queries, num_candidates, dtype=torch.bool),
    )


def predict(network, *tensors):
    """Return a prediction without gradients."""
    with torch.inference_mode():
        return network(*tensors)


def test_both_pair_forms_give_the_same_bias_and_gradient():
    """The factored form equals the literal one to 1e-5, and so do the gradients of both."""
    bias = PairBias(LatentConfig())
    token_BMH = torch.randn(2, 7, 48, requires_grad=True)
    results = []
    for form in ("literal", "factored"):
        bias.form = form
        bias.zero_grad()
        bias_BAMM = bias(token_BMH)
        (gradient_BMH,) = torch.autograd.grad(
            bias_BAMM.square().sum(), token_BMH, retain_graph=True
        )
        bias_BAMM.square().sum().backward()
        results.append([bias_BAMM, gradient_BMH, bias.first.weight.grad.clone()])
    assert results[0][0].shape == (2, 4, 7, 7)
    for literal, factored in zip(*results, strict=True):
        torch.testing.assert_close(literal, factored, atol=1e-5, rtol=1e-5)


def test_both_pair_forms_give_the_same_prediction():
    """One set of weights, two forms, one answer."""
    literal, factored = network_of(), network_of(pair_form="factored")
    for one, other in zip(predict(literal, *inputs()), predict(factored, *inputs()), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


@pytest.mark.parametrize("num_candidates", [4, 22, 60])
def test_it_has_the_size_of_the_published_small_configuration(num_candidates):
    """0.2 to 0.45 million numbers for 300 features, whatever the pool."""
    network = LatentNetwork(300, 2 + 2 * num_candidates, LatentConfig())
    assert 200_000 < network.num_parameters() < 450_000


@pytest.mark.parametrize("value", [0.0, 1e30, float("nan")])
@pytest.mark.parametrize("form", ["literal", "factored"])
def test_what_a_masked_candidate_holds_does_not_matter(form, value):
    """Whatever the profile and cost of a masked candidate, the others score as before."""
    network = network_of(pair_form=form)
    query_BD, profile_MP, cost_BM, available_BM = inputs()
    available_BM[:, 4] = False
    altered_MP, altered_BM = profile_MP.clone(), cost_BM.clone()
    altered_MP[4], altered_BM[:, 4] = value, value
    plain = predict(network, query_BD, profile_MP, cost_BM, available_BM)
    altered = predict(network, query_BD, altered_MP, altered_BM, available_BM)
    for one, other in zip(plain, altered, strict=True):
        torch.testing.assert_close(one[:, :4], other[:, :4], atol=1e-6, rtol=0)


@pytest.mark.parametrize("change", [{}, *ABLATIONS])
@pytest.mark.parametrize("num_candidates", [1, 5])
def test_predictions_keep_their_bounds(change, num_candidates):
    """With any part left out, and with every candidate of a row masked."""
    *rest, available_BM = inputs(2, num_candidates)
    available_BM[0] = False
    prediction = predict(network_of(**change), *rest, available_BM)
    assert prediction.mean_BM.shape == (2, num_candidates)
    assert ((prediction.mean_BM >= 0) & (prediction.mean_BM <= 1)).all()
    assert (prediction.std_BM > 0).all()
    assert (prediction.correction_BM.abs() <= 0.05).all()


def test_without_a_correction_the_mean_is_the_outcome_head_alone():
    """A bound of 0 leaves mu as it is."""
    prediction = predict(network_of(correction_bound=0.0), *inputs())
    assert torch.equal(prediction.mean_BM, prediction.mu_BM)
    assert (prediction.correction_BM == 0).all()


def test_without_communication_candidates_are_judged_alone():
    """Only with rounds does masking one candidate move the others."""
    *rest, available_BM = inputs()
    masked_BM = available_BM.clone()
    masked_BM[:, 0] = False
    for num_rounds, moves in ((0, False), (2, True)):
        network = network_of(num_rounds=num_rounds)
        plain, masked = (predict(network, *rest, mask).mu_BM for mask in (available_BM, masked_BM))
        assert torch.equal(plain[:, 1:], masked[:, 1:]) is not moves


@pytest.mark.parametrize("change", [{}, *ABLATIONS])
def test_every_form_reads_the_query_and_the_cost(change):
    """Another query or another cost is another prediction, with any part left out."""
    network = network_of(**change)
    query_BD, profile_MP, cost_BM, available_BM = inputs()
    plain = predict(network, query_BD, profile_MP, cost_BM, available_BM).mu_BM
    asked = predict(network, query_BD.flip(0), profile_MP, cost_BM, available_BM).mu_BM
    dearer = predict(network, query_BD, profile_MP, 2 * cost_BM, available_BM).mu_BM
    assert (plain - asked).abs().max() > 1e-4
    assert (plain - dearer).abs().max() > 1e-4


def test_without_capsules_there_is_nothing_to_ask_with():
    """The tokens' mean takes the place of the capsules and of the attention that fills them."""
    names = dict(network_of(num_capsules=0).named_parameters())
    assert not any(name.startswith(("capsule_CH", "read_query")) for name in names)


def test_a_start_is_added_to_the_logit_of_the_mean():
    """A start of logit 0.8 is 0.8 in a silent network, and moves any other by as much."""
    network, start_BM = network_of(), torch.full((3, 5), 0.8).logit()
    free, started = predict(network, *inputs()), predict(network, *inputs(), start_BM)
    torch.testing.assert_close(free.mu_BM.logit() + start_BM, started.mu_BM.logit())
    network.silence()
    silent = predict(network, *inputs(), start_BM)
    torch.testing.assert_close(silent.mean_BM, torch.full((3, 5), 0.8))


def test_every_weight_learns():
    """No layer is cut off from the mean, the spread or the correction."""
    network = network_of()
    prediction = network(*inputs())
    sum(tensor.square().sum() for tensor in prediction).backward()
    idle = [name for name, weight in network.named_parameters() if weight.grad is None]
    assert idle == []


@pytest.mark.parametrize(
    "change",
    [{"hidden": 50}, {"num_rounds": 9}, {"num_capsules": -1}, {"dropout": float("nan")}],
)
def test_sizes_outside_their_bounds_are_refused(change):
    """A bad size is named when the config is built."""
    with pytest.raises(InvalidInputError, match=next(iter(change))):
        dataclasses.replace(LatentConfig(), **change)


def test_profiles_count_wins_and_differences_by_opponent():
    """Rows (1, 0), (1, 1), (0.5, -): means 2.5/3 and 1/2, a win and a tie, (1 + 0)/2."""
    score_NM = np.array([[1.0, 0.0], [1.0, 1.0], [0.5, np.nan]])
    cost_NM = np.array([[0.1, 1.0]] * 3)
    expected_MP = [[2.5 / 3, 0.1, 0.5, 0.75, 0.0, 0.5], [0.5, 1.0, 0.25, 0.5, -0.5, 0.0]]
    np.testing.assert_allclose(pool_profiles(score_NM, cost_NM), expected_MP)


def test_profiles_of_the_unseen_are_neutral():
    """A candidate without a score has the mean of all, wins half and differs by nothing."""
    score_NM = np.array([[1.0, np.nan], [0.0, np.nan]])
    profile_MP = pool_profiles(score_NM, np.ones((2, 2)))
    np.testing.assert_allclose(profile_MP[1], [0.5, 1.0, 0.5, 0.5, 0.0, 0.0])


def test_standardised_profiles_keep_what_tells_candidates_apart():
    """Columns (1, 3) become (-1, 1), equal ones 0, and a pool of one has nothing to tell."""
    profile_MP = np.array([[1.0, 5.0], [3.0, 5.0]])
    np.testing.assert_allclose(standardised(profile_MP), [[-1.0, 0.0], [1.0, 0.0]])
    np.testing.assert_allclose(standardised(profile_MP[:1]), [[0.0, 0.0]])


@pytest.mark.parametrize(
    ("penalty", "utility"),
    # Means (0.6, 0.5) and (0.9, 0.8): the first is chosen, worth 0, then the only one observed.
    # A penalty of 0.3 on the first turns row one: 1; row two is worth 1 - 0.3.
    [(0.0, (0.0 + 1.0) / 2), (0.3, (1.0 + 0.7) / 2)],
)
def test_stopping_looks_at_the_utility_of_the_best_observed_score(penalty, utility):
    """Rows without a label do not count."""
    observed_NM = torch.tensor([[True, True], [True, False], [False, False]])
    quality_NM = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    penalty_NM = torch.tensor([[penalty, 0.0]]).repeat(3, 1)
    targets = Targets(quality_NM, penalty_NM, observed_NM, observed_NM.float())
    mean_NM = np.array([[0.6, 0.5], [0.9, 0.95], [0.1, 0.2]])
    assert greedy_utility(mean_NM, targets) == pytest.approx(utility)


def test_stopping_cannot_tell_without_labels():
    """No observed entry, no utility."""
    nothing = torch.zeros(2, 2)
    targets = Targets(nothing, nothing, nothing.bool(), nothing)
    assert np.isnan(greedy_utility(np.zeros((2, 2)), targets))


def test_permuting_queries_permutes_the_prediction():
    """No query hears of another."""
    network, (query_BD, profile_MP, cost_BM, available_BM) = network_of(), inputs()
    plain = predict(network, query_BD, profile_MP, cost_BM, available_BM).mean_BM
    for order in itertools.permutations(range(3)):
        moved = predict(
            network, query_BD[list(order)], profile_MP, cost_BM[list(order)], available_BM
        ).mean_BM
        torch.testing.assert_close(moved, plain[list(order)], atol=1e-6, rtol=0)
