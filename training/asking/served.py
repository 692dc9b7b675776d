"""Step 8, before learning: ask the running system which candidates it serves."""

from __future__ import annotations

import httpx

from router.candidate import Candidate, Price
from router.errors import InvalidInputError


def served_candidates(url: str) -> list[Candidate]:
    """Return the candidates that the running system lists, with their prices."""
    with httpx.Client(trust_env=False, timeout=30) as client:
        models = client.get(f"{url}/v1/models").raise_for_status().json()["data"]
    return [
        Candidate(
            id=model["id"],
            price=Price(
                input_usd_per_mtok=model["pointsman"]["input_usd_per_mtok"],
                output_usd_per_mtok=model["pointsman"]["output_usd_per_mtok"],
            ),
            modalities=frozenset(model["pointsman"]["modalities"]),
            max_images=model["pointsman"]["max_images"],
            context_window=model["pointsman"]["context_window"],
        )
        for model in models
        if model["id"] != "auto"
    ]


def served_candidate(url: str, candidate_id: str) -> Candidate:
    """Return one candidate.

    Raises:
        InvalidInputError: If the system does not list it; names those that it does.
    """
    candidates = {candidate.id: candidate for candidate in served_candidates(url)}
    if candidate_id not in candidates:
        raise InvalidInputError(
            f"{candidate_id!r} is not served at {url}; use one of {', '.join(candidates)}",
            "candidate",
        )
    return candidates[candidate_id]
