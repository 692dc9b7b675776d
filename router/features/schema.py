"""The layout of a feature vector: which block lies where, and who computed it.

Axis legend: F = features.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import accumulate

from router.errors import ArtifactError, InvalidInputError


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureBlock:
    """One contiguous run of features from one encoder."""

    name: str
    """What the block describes, such as ``text``; unique in its schema."""

    encoder: str
    """Name of the encoder that computes it."""

    sha256: str
    """The encoder's fingerprint."""

    dim: int
    """Number of features; at least 1."""

    def __post_init__(self) -> None:
        """Refuse an empty block."""
        if self.dim < 1:
            raise InvalidInputError(f"block {self.name}: dim must be 1 or more, got {self.dim}")


@dataclass(frozen=True)
class FeatureSchema:
    """Blocks in the order in which they lie in a vector.

    Two vectors may be compared only if their schemas have the same ``hash``.
    """

    blocks: tuple[FeatureBlock, ...]

    def __post_init__(self) -> None:
        """Refuse two blocks of one name."""
        names = [block.name for block in self.blocks]
        if len(set(names)) < len(names):
            raise InvalidInputError(f"block names must be unique, got {names}")

    @property
    def num_features(self) -> int:
        """F, the length of a vector."""
        return sum(block.dim for block in self.blocks)

    @cached_property
    def hash(self) -> str:
        """Sha256 of the canonical JSON, in hex."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @cached_property
    def slices(self) -> dict[str, slice]:
        """Where each block lies in a vector, by name."""
        ends = accumulate(block.dim for block in self.blocks)
        return {
            block.name: slice(end - block.dim, end)
            for block, end in zip(self.blocks, ends, strict=True)
        }

    def to_json(self) -> str:
        """Return the canonical JSON: sorted keys, no spaces."""
        blocks = [asdict(block) for block in self.blocks]
        return json.dumps({"blocks": blocks}, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> FeatureSchema:
        """Read what ``to_json`` wrote.

        Raises:
            ArtifactError: If the text is anything else.
        """
        try:
            return cls(tuple(FeatureBlock(**block) for block in json.loads(text)["blocks"]))
        except (ValueError, TypeError, KeyError) as error:
            raise ArtifactError(f"not a feature schema: {error}") from error
