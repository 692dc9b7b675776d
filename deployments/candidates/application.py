"""The ``import_path`` of every candidate: from its block to a Serve application."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deployments.candidates.block import CandidateArgs

if TYPE_CHECKING:
    from ray.serve import Application


def build(args: dict[str, Any]) -> Application:
    """Build the application of one candidate.

    Args:
        args: The block's ``args``; see ``CandidateArgs``.

    Raises:
        pydantic.ValidationError: If a key is unknown, missing or out of bounds.
    """
    from deployments.candidates.vllm import build_vllm_candidate  # noqa: PLC0415 - imports vLLM

    return build_vllm_candidate(CandidateArgs.model_validate(args))
