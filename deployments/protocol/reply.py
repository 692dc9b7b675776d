"""Step 6, reply: what Pointsman adds to a candidate's answer, and the list of models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from deployments.protocol.call import AUTO

if TYPE_CHECKING:
    from collections.abc import Iterable

    from router.candidate import Candidate

HEADER_SAFE = " !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~"
"""Printable ASCII but the percent sign, which marks what was escaped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a user is told of the decision behind an answer."""

    decision_id: str
    """Asks ``GET /v1/decisions/{id}`` for the whole decision, and labels its outcome."""

    candidate_id: str
    """Who answered."""

    router_version: str
    """Which router decided; empty when none did."""

    predicted_quality: float | None
    """Predicted quality of the answer, 0..1; None when the choice was made without a router."""

    policy: str
    """``greedy``, ``explore``, ``pinned`` or ``fallback``."""


def annotate(response: dict[str, Any], receipt: Receipt) -> dict[str, Any]:
    """Return a completion, or a chunk of one, with the receipt under ``pointsman``."""
    extension = {
        "decision_id": receipt.decision_id,
        "candidate": receipt.candidate_id,
        "router_version": receipt.router_version,
        "predicted_quality": receipt.predicted_quality,
        "policy": receipt.policy,
    }
    return {**response, "pointsman": extension}


def response_headers(receipt: Receipt) -> dict[str, str]:
    """Return the receipt as HTTP headers, percent-encoded where a header cannot hold a character.

    ``x-pointsman-predicted-quality`` is absent when nothing was predicted.
    """
    headers = {
        "x-pointsman-decision-id": receipt.decision_id,
        "x-pointsman-candidate": receipt.candidate_id,
        "x-pointsman-router-version": receipt.router_version,
    }
    if receipt.predicted_quality is not None:
        headers["x-pointsman-predicted-quality"] = f"{receipt.predicted_quality:.4f}"
    return {name: quote(value, safe=HEADER_SAFE) for name, value in headers.items()}


def models_list(candidates: Iterable[Candidate], created: int) -> dict[str, Any]:
    """Return the body of ``GET /v1/models``.

    Args:
        candidates: The pool, in its order; ``auto`` goes before it.
        created: Unix time to state for every model, in seconds.
    """
    auto = {"id": AUTO, "object": "model", "created": created, "owned_by": "pointsman"}
    entries = [{**auto, "id": candidate.id, **_facts(candidate)} for candidate in candidates]
    return {"object": "list", "data": [auto, *entries]}


def _facts(candidate: Candidate) -> dict[str, Any]:
    """Return what a user may want to know of a candidate before pinning it."""
    facts = {
        "modalities": sorted(candidate.modalities),
        "max_images": candidate.max_images,
        "context_window": candidate.context_window,
        "input_usd_per_mtok": candidate.price.input_usd_per_mtok,
        "output_usd_per_mtok": candidate.price.output_usd_per_mtok,
    }
    return {"pointsman": facts}
