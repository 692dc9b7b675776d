"""The image statistics block: what kind of picture it is (photo, chart, page), in plain numbers.

Axis legend: H, W = rows and columns, C = colours, P = pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from PIL import Image

from router.features.encoder import fingerprint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from router.features.picture import Picture

_SIDE = 160
"""Longer side that is measured: a quarter of the thumbnail's pixels, the same numbers."""

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_STRONG_EDGE = 0.1
_NUM_LEVELS = 8
_TINY = 1e-6


class ImageStatisticsEncoder:
    """Shape, brightness, colour and edges of one picture; no weights."""

    name: ClassVar[str] = "image-statistics"
    names: ClassVar[tuple[str, ...]] = (
        "log_aspect",
        *(f"luma_level_{level}" for level in range(_NUM_LEVELS)),
        *("luma_mean", "luma_deviation", "luma_entropy"),
        *("red", "green", "blue", "saturation_mean", "saturation_deviation", "grey_share"),
        *("background_share", "log_num_colors", "color_entropy"),
        *("edge_mean", "edge_share", "edge_horizontal_share", "edge_fine_share"),
        "mirror_difference",
    )
    dim: ClassVar[int] = len(names)
    sha256: ClassVar[str] = fingerprint(name, 1)

    def encode(self, item: Picture, /) -> NDArray[np.float32]:
        """Return the statistics in the order of ``names``."""
        rgb_HWC = _small(item.thumbnail)
        luma_HW = rgb_HWC @ _LUMA
        values = (
            np.log(item.width / item.height),
            *_brightness(luma_HW),
            *_color(rgb_HWC.reshape(-1, 3)),
            *_edges(luma_HW),
            np.abs(luma_HW - luma_HW[:, ::-1]).mean(),
        )
        return np.array(values, dtype=np.float32)


class ImageSetEncoder:
    """How many pictures a query has and how large they are; tells text-only queries apart."""

    name: ClassVar[str] = "image-set"
    names: ClassVar[tuple[str, ...]] = (
        "has_image",
        "log_num_images",
        "log_longest_side",
        "log_num_pixels",
    )
    dim: ClassVar[int] = len(names)
    sha256: ClassVar[str] = fingerprint(name, 1)

    def encode(self, item: Sequence[Picture], /) -> NDArray[np.float32]:
        """Return the numbers in the order of ``names``; all zero without a picture."""
        longest = max((max(picture.width, picture.height) for picture in item), default=0)
        num_pixels = sum(picture.width * picture.height for picture in item)
        values = (bool(item), np.log1p(len(item)), np.log1p(longest), np.log1p(num_pixels))
        return np.array(values, dtype=np.float32)


def _small(thumbnail_HWC: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the picture at no more than 160 px a side, colours 0 to 1."""
    image = Image.fromarray(thumbnail_HWC)
    factor = -(-max(image.size) // _SIDE)
    return np.asarray(image.reduce(factor), dtype=np.float32) / 255.0


def _entropy(counts: NDArray[np.int64]) -> float:
    """Return the entropy of a histogram in nats."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def _brightness(luma_HW: NDArray[np.float32]) -> tuple[float, ...]:
    """Return shares of eight levels, mean, deviation, entropy."""
    levels = np.minimum(luma_HW * 32, 31).astype(np.int64).ravel()
    counts = np.bincount(levels, minlength=32)
    shares = counts.reshape(_NUM_LEVELS, -1).sum(axis=1) / counts.sum()
    return (*shares, luma_HW.mean(), luma_HW.std(), _entropy(counts))


def _color(rgb_PC: NDArray[np.float32]) -> tuple[float, ...]:
    """Return mean colour, saturation, share of greys, and how many colours fill the picture."""
    saturation_P = rgb_PC.max(axis=1) - rgb_PC.min(axis=1)
    cells_P = np.minimum(rgb_PC * 16, 15).astype(np.int64) @ np.array([256, 16, 1])
    counts = np.bincount(cells_P, minlength=1)
    return (
        *rgb_PC.mean(axis=0),
        saturation_P.mean(),
        saturation_P.std(),
        (saturation_P < 1 / 16).mean(),
        counts.max() / counts.sum(),
        np.log1p(np.count_nonzero(counts)),
        _entropy(counts),
    )


def _edges(luma_HW: NDArray[np.float32]) -> tuple[float, ...]:
    """Return mean gradient, share of strong ones, share that is horizontal, share that is fine.

    A fine edge is gone at half size: text and noise have them, shapes and shading do not.
    """
    across = np.abs(np.diff(luma_HW, axis=1)).sum() / luma_HW.size
    down = np.abs(np.diff(luma_HW, axis=0)).sum() / luma_HW.size
    strong = np.abs(np.diff(luma_HW, axis=1)) > _STRONG_EDGE
    coarse = np.abs(np.diff(luma_HW[::2, ::2], axis=1)).sum() * 4 / luma_HW.size
    return (
        across + down,
        strong.sum() / luma_HW.size,
        down / (across + down + _TINY),
        across / (across + coarse + _TINY),
    )
