"""Candidates: what the Serve config says of a model that may be chosen."""

from __future__ import annotations

from dataclasses import dataclass, field

from router.errors import InvalidInputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What a candidate charges, in USD per million tokens."""

    input_usd_per_mtok: float
    """Prompt tokens, image tokens included; 0 or more."""

    output_usd_per_mtok: float
    """Generated tokens; 0 or more."""

    def __post_init__(self) -> None:
        """Refuse prices that are negative or not a number."""
        for name in ("input_usd_per_mtok", "output_usd_per_mtok"):
            if not getattr(self, name) >= 0:
                raise InvalidInputError(
                    f"{name} must be 0 or more, got {getattr(self, name)}", f"price.{name}"
                )

    def cost_usd(self, num_input_tokens: float, num_output_tokens: float) -> float:
        """Return the cost of one call in USD."""
        return (
            num_input_tokens * self.input_usd_per_mtok
            + num_output_tokens * self.output_usd_per_mtok
        ) / 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One model that may be chosen."""

    id: str
    """Unique name; the Serve application is ``candidate-<id>``."""

    price: Price
    """What its tokens cost."""

    modalities: frozenset[str] = field(default_factory=lambda: frozenset({"text", "image"}))
    """Kinds of content it reads: ``text``, ``image``."""

    max_images: int = 1
    """Most images in one query; 0 or more."""

    context_window: int = 2048
    """Most tokens of prompt and reply together; at least 1."""

    def __post_init__(self) -> None:
        """Refuse values that no candidate can have."""
        if not self.id:
            raise InvalidInputError("a candidate's id must not be empty", "id")
        if self.context_window < 1:
            raise InvalidInputError(
                f"context_window must be at least 1, got {self.context_window}", "context_window"
            )
        if self.max_images < 0:
            raise InvalidInputError(
                f"max_images must be 0 or more, got {self.max_images}", "max_images"
            )
        if unknown := self.modalities - {"text", "image"}:
            raise InvalidInputError(
                f"unknown modalities {sorted(unknown)}; use text, image", "modalities"
            )
