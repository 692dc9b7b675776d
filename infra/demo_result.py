"""What the main job came to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infra.policies import PolicyRow


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoResult:
    """What a run came to; written to ``.run/demo/result.json``."""

    commit: str
    elapsed_s: float
    peak_memory_mb: float
    memory_by_kind: dict[str, tuple[int, float]]
    num_questions: int
    rows: list[PolicyRow]
    gain: tuple[float, float, float]
    """Of auto over the best single candidate, with its 95 % interval."""

    curve: list[tuple[float, float, float]]
    """Cost weight, mean cost in USD, quality."""
