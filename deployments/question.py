"""Step 2, asked for: what crosses from the ingress to the router, pictures as thumbnails."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from router.features.picture import Picture


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What the features are made of. Pictures travel without their original bytes."""

    text: str
    pictures: tuple[Picture, ...]

    @classmethod
    def of(cls, text: str, pictures: tuple[Picture, ...]) -> Question:
        """Return the question with only the pictures' thumbnails, which is all encoders read."""
        return cls(text=text, pictures=tuple(dataclasses.replace(p, data=b"") for p in pictures))
