"""Step 4, mask: which candidates may serve this query now, with a reason for each refusal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from router.records import QueryShape, Refusal, Routing, Standing

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

MOST_CHARS_PER_TOKEN = 8.0
"""Most characters one token stands for. Tokenisers average 3 to 4 on English text; a mask must not
refuse a candidate that the query would fit, so the estimate leaves room."""

TOKENS_PER_IMAGE = 16
"""Fewest tokens any served model spends on an image; the zoo's candidates spend exactly 16."""


def refuse(
    standing: Standing, shape: QueryShape, routing: Routing, profiled: Collection[str] | None
) -> Refusal | None:
    """Return why a candidate may not serve a query, by what is known before the scores.

    Args:
        standing: The candidate and the state of its replicas.
        shape: Size and modalities of the query.
        routing: The request's own wishes.
        profiled: Candidates with a profile; None where none is needed, as for a pinned request.
    """
    candidate = standing.candidate
    if candidate.id in routing.deny:
        return Refusal.DENIED
    if routing.allow is not None and candidate.id not in routing.allow:
        return Refusal.DENIED
    if (refusal := _misfit(standing, shape)) is not None:
        return refusal
    if standing.refusal is not None:
        return standing.refusal
    if profiled is not None and candidate.id not in profiled:
        return Refusal.NO_PROFILE
    return None


def _misfit(standing: Standing, shape: QueryShape) -> Refusal | None:
    """Return why the query does not fit the candidate, whatever its replicas do."""
    candidate = standing.candidate
    if shape.num_images and "image" not in candidate.modalities:
        return Refusal.LACKS_MODALITY
    if shape.num_images > candidate.max_images:
        return Refusal.TOO_MANY_IMAGES
    if shape.num_chars and "text" not in candidate.modalities:
        return Refusal.LACKS_MODALITY
    if fewest_tokens(shape) > candidate.context_window:
        return Refusal.CONTEXT_TOO_SHORT
    return None


def fewest_tokens(shape: QueryShape) -> float:
    """Return a low estimate of the tokens of prompt and reply.

    The estimate is low on purpose: a candidate is masked only when the query cannot fit, since
    the candidate itself gives the exact answer at no cost.
    """
    reply = shape.max_output_tokens or 1
    return shape.num_chars / MOST_CHARS_PER_TOKEN + shape.num_images * TOKENS_PER_IMAGE + reply


def over_cap(cost_usd: float, latency_s: float, routing: Routing) -> Refusal | None:
    """Return why a candidate's forecast breaks the request's caps, if it does."""
    if routing.max_cost_usd is not None and cost_usd > routing.max_cost_usd:
        return Refusal.OVER_PRICE_CAP
    if routing.max_latency_s is not None and latency_s > routing.max_latency_s:
        return Refusal.OVER_LATENCY_CAP
    return None


def reasons(candidate_ids: Sequence[str], refusals: Sequence[Refusal | None]) -> dict[str, str]:
    """Return the reason of each refused candidate by its id."""
    return {
        name: refusal.value
        for name, refusal in zip(candidate_ids, refusals, strict=True)
        if refusal is not None
    }
