"""Step 2b, extraction: a text and its pictures come in, one feature vector goes out.

Axis legend: F = features, E = one block's features.
"""

from __future__ import annotations

import hashlib
from functools import partial
from typing import TYPE_CHECKING, Protocol

import numpy as np

from router.features.cache import VectorCache
from router.features.image import EfficientNetEncoder
from router.features.image_statistics import ImageSetEncoder, ImageStatisticsEncoder
from router.features.question import QuestionStatisticsEncoder
from router.features.schema import FeatureBlock, FeatureSchema
from router.features.text import MiniLMEncoder
from router.features.text_density import TextDensityEncoder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray

    from router.features.encoder import Encoder
    from router.features.picture import Picture

    Part = Callable[[], NDArray[np.float32]]


class Run(Protocol):
    """Calls a function of each part, in order, like ``map``."""

    def __call__(
        self, function: Callable[[Part], NDArray[np.float32]], parts: Sequence[Part], /
    ) -> Iterable[NDArray[np.float32]]:
        """Return what it returned of each."""
        ...


class FeatureExtractor:
    """Runs every encoder and lays the blocks out by its schema.

    Blocks come in the order text, picture, set. Picture blocks are averaged over the pictures, and
    zero without one; a set block tells the two apart. Each router replica holds one extractor.
    """

    schema: FeatureSchema
    """The layout of every vector it returns."""

    caches: Mapping[str, VectorCache]
    """Remembered vectors of text and picture blocks, by block name; they count hits and misses."""

    def __init__(
        self,
        *,
        text: Mapping[str, Encoder[str]],
        picture: Mapping[str, Encoder[Picture]],
        picture_set: Mapping[str, Encoder[Sequence[Picture]]],
        cache_size: int = 4096,
    ) -> None:
        """Take the encoders by block name.

        Args:
            text: Encoders of the text.
            picture: Encoders of one picture.
            picture_set: Encoders of all pictures at once; cheap ones, for they are not cached.
            cache_size: Most vectors remembered a block; 4096 of the default encoders take 28 MB,
                from the start.
        """
        self._text = dict(text)
        self._picture = dict(picture)
        self._picture_set = dict(picture_set)
        self.schema = FeatureSchema((*_blocks(text), *_blocks(picture), *_blocks(picture_set)))
        encoders: dict[str, Encoder[Any]] = {**text, **picture}
        self.caches = {name: VectorCache(cache_size, one.dim) for name, one in encoders.items()}

    @classmethod
    def load(cls, folder: Path, *, cache_size: int = 4096) -> FeatureExtractor:
        """Open the default encoders from a folder that ``build`` filled; takes about a second.

        Raises:
            EncoderError: If weights are missing or altered.
        """
        return cls(
            text={"text": MiniLMEncoder(folder), "question": QuestionStatisticsEncoder()},
            picture={
                "image": EfficientNetEncoder(folder),
                "text_density": TextDensityEncoder(folder),
                "image_statistics": ImageStatisticsEncoder(),
            },
            picture_set={"image_set": ImageSetEncoder()},
            cache_size=cache_size,
        )

    def extract(
        self, text: str, pictures: Sequence[Picture], *, run: Run = map
    ) -> NDArray[np.float32]:
        """Return ``features_F``: finite, laid out by ``schema``, the same for the same content.

        Args:
            text: What is asked.
            pictures: What it is asked of.
            run: Calls the encoders; the ``map`` of an executor runs them beside each other, and
                numbers do not depend on it.
        """
        key = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        parts: list[Part] = [
            partial(self.caches[name].get_or_compute, key, partial(encoder.encode, text))
            for name, encoder in self._text.items()
        ]
        parts += [partial(self._mean, name, pictures) for name in self._picture]
        parts += [partial(encoder.encode, pictures) for encoder in self._picture_set.values()]
        return np.concatenate(list(run(_call, parts)))

    def _mean(self, name: str, pictures: Sequence[Picture]) -> NDArray[np.float32]:
        """Return one picture block, averaged over the pictures."""
        encoder = self._picture[name]
        cache = self.caches[name]
        total_E = np.zeros(encoder.dim, dtype=np.float32)
        for picture in pictures:
            total_E += cache.get_or_compute(picture.sha256, partial(encoder.encode, picture))
        total_E /= max(1, len(pictures))
        return total_E


def _call(part: Part) -> NDArray[np.float32]:
    return part()


def _blocks(encoders: Mapping[str, Encoder[Any]]) -> Iterable[FeatureBlock]:
    """Describe each encoder's block."""
    for name, encoder in encoders.items():
        yield FeatureBlock(name=name, encoder=encoder.name, sha256=encoder.sha256, dim=encoder.dim)
