"""The ``import_path`` of every candidate: from its block to a Serve application."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deployments.candidates.block import OpenAIArgs, args_model

if TYPE_CHECKING:
    from ray.serve import Application


def build(args: dict[str, Any]) -> Application:
    """Build the application of one candidate.

    Args:
        args: The block's ``args``; see ``VLLMArgs`` and ``OpenAIArgs``.

    Raises:
        InvalidInputError: If the kind is not known.
        pydantic.ValidationError: If a key is unknown, missing or out of bounds.
    """
    block = args_model(args).model_validate(args)
    if isinstance(block, OpenAIArgs):
        from deployments.candidates.openai import build_openai_candidate  # noqa: PLC0415 - Serve

        return build_openai_candidate(block)
    from deployments.candidates.vllm import build_vllm_candidate  # noqa: PLC0415 - imports vLLM

    return build_vllm_candidate(block)
