"""The network: equivariant, deaf to the masked, open to any number of candidates."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from router.errors import InvalidInputError
from router.network import LatentRouter, NetworkConfig, PairBias, masked_softmax

QUERY_WIDTH, CAPABILITY_WIDTH = 20, 16


@pytest.fixture(scope="module")
def network():
    """Return a network none of whose layers is silent."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = NetworkConfig(
            query_width=QUERY_WIDTH, capability_width=CAPABILITY_WIDTH, num_kinds=4
        )
        network = LatentRouter(config)
        for parameter in network.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
    return network.eval()


def inputs(num_queries, num_candidates, seed=0):
    """Return queries, capabilities and a full mask."""
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(num_queries, QUERY_WIDTH, generator=generator),
        torch.rand(num_candidates, CAPABILITY_WIDTH, generator=generator),
        torch.ones(num_queries, num_candidates, dtype=torch.bool),
    )


def assert_close(one, other, tolerance=1e-6):
    """Compare predictions field by field."""
    for left, right in zip(one, other, strict=True):
        torch.testing.assert_close(left, right, atol=tolerance, rtol=0)


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(5)), st.integers(0, 1000))
def test_permuting_candidates_permutes_the_prediction(network, order, seed):
    """Order carries no meaning, masks included."""
    query_BD, capability_MP, available_BM = inputs(3, 5, seed)
    available_BM[1, 2] = False
    with torch.inference_mode():
        plain = network(query_BD, capability_MP, available_BM)
        moved = network(query_BD, capability_MP[order], available_BM[:, order])
    assert_close([tensor[:, order] for tensor in plain], moved)


@pytest.mark.parametrize("value", [0.0, 1e30, float("nan"), float("inf")])
def test_a_masked_candidate_changes_nothing(network, value):
    """Whatever a masked candidate holds, the others score as if it were not there."""
    query_BD, capability_MP, available_BM = inputs(3, 5)
    available_BM[:, 4] = False
    altered_MP = capability_MP.clone()
    altered_MP[4] = value
    with torch.inference_mode():
        absent = network(query_BD, capability_MP[:4], available_BM[:, :4])
        present = network(query_BD, altered_MP, available_BM)
    assert_close(absent, [tensor[:, :4] for tensor in present])


def test_a_row_with_everyone_masked_judges_each_alone(network):
    """All-masked rows are finite, and no candidate hears of another."""
    query_BD, capability_MP, available_BM = inputs(1, 3)
    with torch.inference_mode():
        together = network(query_BD, capability_MP, ~available_BM)
        alone = network(query_BD, capability_MP[:1], ~available_BM[:, :1])
    assert all(tensor.isfinite().all() for tensor in together)
    assert_close(alone, [tensor[:, :1] for tensor in together])


@pytest.mark.parametrize("num_candidates", [1, 2, 17, 200])
def test_any_pool_size_is_scored_without_retraining(network, num_candidates):
    """One set of weights serves pools of 1 to 200, within bounds."""
    with torch.inference_mode():
        prediction = network(*inputs(2, num_candidates))
    assert prediction.mean_BM.shape == (2, num_candidates)
    assert ((prediction.mean_BM >= 0) & (prediction.mean_BM <= 1)).all()
    assert (prediction.std_BM > 0).all()
    assert (prediction.correction_BM.abs() <= 0.05).all()


def test_capabilities_may_differ_by_query(network):
    """A (B, M, P) table equal in every row gives what the (M, P) table gives."""
    query_BD, capability_MP, available_BM = inputs(3, 4)
    with torch.inference_mode():
        shared = network(query_BD, capability_MP, available_BM)
        own = network(query_BD, capability_MP.repeat(3, 1, 1), available_BM)
    assert_close(shared, own)


def test_the_pair_bias_equals_the_layer_it_decomposes():
    """W [m_i; m_j; m_i - m_j; m_i * m_j], built in full, gives the same bias."""
    torch.manual_seed(3)
    bias = PairBias(hidden=6, pair_width=5, num_heads=2)
    one_RH, two_RH, three_RH = torch.randn(3, 5, 6)
    bias.own.weight.data, bias.other.weight.data = one_RH + three_RH, two_RH - three_RH
    token_BMH = torch.randn(2, 4, 6)
    left = token_BMH.unsqueeze(2).expand(2, 4, 4, 6)
    right = token_BMH.unsqueeze(1).expand(2, 4, 4, 6)
    whole = torch.cat([left, right, left - right, left * right], dim=-1)
    weight = torch.cat([one_RH, two_RH, three_RH, bias.product_RH], dim=1)
    hidden = torch.nn.functional.gelu(whole @ weight.T + bias.own.bias)
    torch.testing.assert_close(bias(token_BMH), bias.out(hidden).permute(0, 3, 1, 2))


def test_an_untrained_network_repeats_the_profile():
    """Membership (1, 0) and qualities (0.8, 0.1) give 0.8 before any training."""
    network = LatentRouter(NetworkConfig(query_width=3, capability_width=4, num_kinds=2)).eval()
    query_BD = torch.tensor([[0.7, 1.0, 0.0]])
    capability_MP = torch.tensor([[0.8, 0.1, 0.0, 0.0]])
    mean_BM = network(query_BD, capability_MP, torch.ones(1, 1, dtype=torch.bool)).mean_BM
    assert mean_BM.item() == pytest.approx(0.8, abs=1e-5)


def test_without_kinds_it_starts_from_one_half():
    """``num_kinds`` 0 leaves the outcome head to itself."""
    network = LatentRouter(NetworkConfig(query_width=3, capability_width=4)).eval()
    mean_BM = network(torch.ones(1, 3), torch.ones(2, 4), torch.ones(1, 2, dtype=torch.bool))[0]
    assert mean_BM.tolist() == [[0.5, 0.5]]


def test_the_default_size_is_the_small_configuration():
    """With 144 inputs and 16 kinds there are 0.2 to 0.4 million parameters."""
    network = LatentRouter(NetworkConfig(query_width=144, capability_width=40, num_kinds=16))
    assert 200_000 < network.num_parameters() < 400_000


def test_masked_softmax_of_nothing_is_nothing():
    """An empty row weighs 0, not NaN; a full one sums to one."""
    weight = masked_softmax(torch.zeros(2, 3), torch.tensor([[False] * 3, [True, True, False]]))
    assert weight.tolist() == [[0, 0, 0], [0.5, 0.5, 0]]


@pytest.mark.parametrize(
    "change",
    [
        {"query_width": 0},
        {"hidden": 50},
        {"dropout": 1.0},
        {"correction_bound": 0.6},
        {"num_kinds": 21},
        {"dropout": np.nan},
    ],
)
def test_sizes_outside_their_bounds_are_refused(change):
    """A bad size is named when the config is built."""
    sizes = {"query_width": QUERY_WIDTH, "capability_width": CAPABILITY_WIDTH}
    with pytest.raises(InvalidInputError, match=next(iter(change))):
        NetworkConfig(**{**sizes, **change})
