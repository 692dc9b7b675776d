"""Proof of speed: the router that serves and the published network, in turns, on the same inputs.

Both start from raw features. One thread, one process; figures are medians and their ratio.
"""

from __future__ import annotations

import dataclasses
import resource
import time
from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from router.candidate import Candidate, Price
from router.features.picture import PictureLimits, decode_picture
from training.benchmark.rivals.latent_network import LatentConfig, LatentNetwork

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from router.artifact import RouterArtifact
    from router.features.extract import FeatureExtractor

NUM_ROUNDS = 60
SMALL_POOL = 11
BATCHES = (1, 64)
_PRICE = Price(input_usd_per_mtok=1.0, output_usd_per_mtok=4.0)
LARGE_POOLS = (100, 300, 1000)


class Timing(NamedTuple):
    """Medians in milliseconds of one call."""

    num_candidates: int
    batch: int
    router_ms: float
    published_ms: float
    """NaN where the published network was not asked."""


def interleaved_ms(calls: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """Return each call's median time; calls take turns so that a slow moment hits all alike."""
    for call in calls:
        for _ in range(3):
            call()
    times_CR = np.zeros((len(calls), rounds))
    for r in range(rounds):
        for c, call in enumerate(calls):
            began = time.perf_counter()
            call()
            times_CR[c, r] = time.perf_counter() - began
    medians: list[float] = (np.median(times_CR, axis=1) * 1e3).tolist()
    return medians


def enlarged(
    artifact: RouterArtifact, num_candidates: int
) -> tuple[RouterArtifact, list[Candidate]]:
    """Return the artifact with so many candidates, each a slightly different copy of its own."""
    rng = np.random.default_rng(0)
    originals = list(artifact.profiles.values())
    profiles, candidates = {}, []
    for number in range(num_candidates):
        profile = originals[number % len(originals)]
        name = f"{profile.candidate_id}-{number}"
        level = profile.token_R[0] + float(rng.normal(0.0, 0.02))
        profiles[name] = dataclasses.replace(
            profile, candidate_id=name, token_R=(level, *profile.token_R[1:])
        )
        candidates.append(Candidate(id=name, price=_PRICE))
    return dataclasses.replace(artifact, profiles=profiles), candidates


def router_call(
    artifact: RouterArtifact, candidates: list[Candidate], features_NF: NDArray[np.float32]
) -> Callable[[], Any]:
    """Return a call as serving makes it: one query with costs and latencies, or a batch."""
    scorer, profiles = artifact.scorer(), artifact.profiles
    if len(features_NF) == 1:
        return lambda: scorer.score(
            features_NF[0], num_chars=80, num_images=1, candidates=candidates, profiles=profiles
        )
    return lambda: scorer.quality(features_NF, candidates=candidates, profiles=profiles)


def published_call(
    artifact: RouterArtifact, num_candidates: int, features_NF: NDArray[np.float32], device: str
) -> Callable[[], Any]:
    """Return a forward pass of the published network with its pair tensor, projection included."""
    projection, batch = artifact.projection, len(features_NF)
    profile_width = 2 + 2 * num_candidates
    network = (
        LatentNetwork(projection.num_outputs, profile_width, LatentConfig()).eval().to(device)
    )
    generator = torch.Generator().manual_seed(0)
    profile_MP = torch.randn(num_candidates, profile_width, generator=generator).to(device)
    cost_BM = torch.zeros(batch, num_candidates, device=device)
    available_BM = torch.ones(batch, num_candidates, dtype=torch.bool, device=device)

    def call() -> Any:  # noqa: ANN401 - a prediction
        query_BD = torch.from_numpy(projection.transform(features_NF)).to(device)
        with torch.inference_mode():
            return network(query_BD, profile_MP, cost_BM, available_BM).mean_BM.cpu()

    return call


def time_small_pools(
    artifact: RouterArtifact, features_NF: NDArray[np.float32], *, device: str = "cpu"
) -> list[Timing]:
    """Time batches of one and of 64 over eleven candidates, both routers in turns."""
    torch.set_num_threads(1)
    pool, candidates = enlarged(artifact, SMALL_POOL)
    timings = []
    for batch in BATCHES if device == "cpu" else (*BATCHES, 512):
        rows_NF = features_NF[:batch]
        ours, theirs = interleaved_ms(
            [
                router_call(pool, candidates, rows_NF),
                published_call(pool, SMALL_POOL, rows_NF, device),
            ],
            NUM_ROUNDS if batch > 1 else 5 * NUM_ROUNDS,
        )
        timings.append(Timing(SMALL_POOL, batch, ours, theirs))
    return timings


def time_large_pools(artifact: RouterArtifact, features_NF: NDArray[np.float32]) -> list[Timing]:
    """Time one query over 100 to 1,000 candidates."""
    timings = []
    for number in LARGE_POOLS:
        pool, candidates = enlarged(artifact, number)
        (ours,) = interleaved_ms([router_call(pool, candidates, features_NF[:1])], NUM_ROUNDS)
        timings.append(Timing(number, 1, ours, float("nan")))
    return timings


def time_encoders(extractor: FeatureExtractor) -> tuple[float, float]:
    """Return milliseconds from text and picture to features: first seen, and seen before."""
    rng = np.random.default_rng(0)
    pictures = []
    for _ in range(NUM_ROUNDS + 3):
        buffer = BytesIO()
        Image.fromarray(rng.integers(0, 255, (480, 640, 3), dtype=np.uint8)).save(buffer, "PNG")
        pictures.append(decode_picture(buffer.getvalue(), limits=PictureLimits()))
    turn = iter(range(len(pictures)))

    def unseen() -> object:
        number = next(turn)
        return extractor.extract(f"How many shapes are in picture {number}?", [pictures[number]])

    def seen() -> object:
        return extractor.extract("How many shapes are in picture 0?", [pictures[0]])

    first_ms, again_ms = interleaved_ms([unseen, seen], NUM_ROUNDS)
    return first_ms, again_ms


def permutation_error(artifact: RouterArtifact, features_NF: NDArray[np.float32]) -> float:
    """Return the largest change of a score when 2 to 1,000 candidates change places."""
    rng, worst = np.random.default_rng(0), 0.0
    for number in (2, SMALL_POOL, *LARGE_POOLS):
        pool, candidates = enlarged(artifact, number)
        scorer, order = pool.scorer(), rng.permutation(number)
        moved = [candidates[i] for i in order]
        plain_NM, moved_NM = (
            scorer.quality(features_NF[:64], candidates=names, profiles=pool.profiles)
            for names in (candidates, moved)
        )
        worst = max(worst, float(np.abs(plain_NM[:, order] - moved_NM).max()))
    return worst


def peak_mb() -> float:
    """Return the most memory that this process has held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
