"""Every rival by name, and LatentRouter with one part left out at a time."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from router.errors import InvalidInputError
from training.benchmark.rivals.latent_network import LatentConfig
from training.benchmark.rivals.latent_router import LatentRouter
from training.benchmark.rivals.linear import LinearMF, Ridge, RidgeRaw
from training.benchmark.rivals.neighbours import KMeans, NearestNeighbours
from training.benchmark.rivals.neural import MLP, MLPMF, Contrast
from training.benchmark.rivals.pointsman import Pointsman
from training.benchmark.rivals.simple import BestSingle, Cheapest, Oracle, RandomChoice
from training.benchmark.rivals.torch_fit import TorchConfig

if TYPE_CHECKING:
    from collections.abc import Collection

    from training.benchmark.rivals.rival import Rival


def all_rivals(
    names: Collection[str] | None = None, *, training: TorchConfig | None = None
) -> tuple[Rival, ...]:
    """Return the rivals in the order of tables: from chance through the learned to hindsight.

    Args:
        names: Which ones; all when None.
        training: How the torch models among them are trained; as published when None.

    Raises:
        InvalidInputError: If a name is not a rival's.
    """
    training = TorchConfig() if training is None else training
    rivals: tuple[Rival, ...] = (
        RandomChoice(),
        Cheapest(),
        BestSingle(),
        NearestNeighbours(),
        KMeans(),
        Ridge(),
        RidgeRaw(),
        LinearMF(training=training),
        MLP(training=training),
        MLPMF(training=training),
        Contrast(training=training),
        LatentRouter(network=LatentConfig(pair_form="factored"), training=training),
        Pointsman(),
        Oracle(),
    )
    return _chosen(rivals, names)


def ablations(start: Rival, *, training: TorchConfig | None = None) -> tuple[Rival, ...]:
    """Return LatentRouter without each of its parts, and on top of another rival.

    Args:
        start: What the last one starts from, such as the profiles' own estimate.
        training: How they are trained; as published when None.
    """
    whole = LatentRouter(
        network=LatentConfig(pair_form="factored"),
        training=TorchConfig() if training is None else training,
    )
    without = {
        "communication": dataclasses.replace(whole.network, num_rounds=0),
        "capsules": dataclasses.replace(whole.network, num_capsules=0),
        "correction": dataclasses.replace(whole.network, correction_bound=0.0),
    }
    parts = (
        dataclasses.replace(whole, name=f"{whole.name}_without_{part}", network=network)
        for part, network in without.items()
    )
    name = f"{whole.name}_from_{start.name}"
    return (*parts, dataclasses.replace(whole, name=name, start=start))


def _chosen(rivals: tuple[Rival, ...], names: Collection[str] | None) -> tuple[Rival, ...]:
    known = {rival.name for rival in rivals}
    if unknown := set(names or ()) - known:
        raise InvalidInputError(
            f"unknown rivals {sorted(unknown)}; use some of {sorted(known)}", "names"
        )
    return tuple(rival for rival in rivals if names is None or rival.name in names)
