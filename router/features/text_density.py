"""The text density block: how much writing a picture holds, by PP-OCRv6's detector alone.

Axis legend: H, W = rows and columns, C = colours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
from PIL import Image

from router.features.encoder import fingerprint, open_session
from router.features.weights import TEXT_DETECTOR, built_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from router.features.picture import Picture

SIDE = 320
"""Longer side that the detector sees: 15 ms on one thread; 640 px would cost four times that and
find text in photos where there is none."""

_MAX_ENLARGEMENT = 2.0
"""Beyond twice its size a small picture gains blur, not text, and costs as much as a large one."""

_STRIDE = 32
_MIN_AREA = 8
_THRESHOLD = 0.3
_MEAN_BGR = np.array([0.406, 0.456, 0.485], dtype=np.float32)
_STD_BGR = np.array([0.225, 0.224, 0.229], dtype=np.float32)


class TextDensityEncoder:
    """Three numbers: log1p of the count of text boxes, their share of the area, line height."""

    name: ClassVar[str] = "ppocr-v6-det-small"
    dim: ClassVar[int] = 3
    sha256: ClassVar[str] = fingerprint(name, 1, TEXT_DETECTOR.sha256)

    def __init__(self, folder: Path) -> None:
        """Open the session; takes about 0.2 s.

        Raises:
            EncoderError: If the weights are missing or altered.
        """
        self._session = open_session(built_bytes(folder, TEXT_DETECTOR))

    def encode(self, item: Picture, /) -> NDArray[np.float32]:
        """Return log1p(boxes), share of the area, median box height as share of the height."""
        probability_HW = self._session.run(None, {"x": _network_input(item.thumbnail)})[0][0, 0]
        is_text_HW = probability_HW > _THRESHOLD
        heights = [box.height for box in text_boxes(is_text_HW) if box.area >= _MIN_AREA]
        line_height = float(np.median(heights)) / len(is_text_HW) if heights else 0.0
        values = (np.log1p(len(heights)), is_text_HW.mean(), line_height)
        return np.array(values, dtype=np.float32)


def _network_input(thumbnail_HWC: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return (1, C, H, W): BGR, ImageNet mean and deviation, sides in steps of 32."""
    height, width = thumbnail_HWC.shape[:2]
    scale = min(SIDE / max(height, width), _MAX_ENLARGEMENT) / _STRIDE
    size = (_STRIDE * max(1, round(width * scale)), _STRIDE * max(1, round(height * scale)))
    resized = Image.fromarray(thumbnail_HWC).resize(size, Image.Resampling.BILINEAR)
    bgr_HWC = np.asarray(resized, dtype=np.float32)[..., ::-1] / 255.0
    pixels_HWC = (bgr_HWC - _MEAN_BGR) / _STD_BGR
    return np.ascontiguousarray(pixels_HWC.transpose(2, 0, 1)[None])


class Box(NamedTuple):
    """One connected region of text pixels."""

    area: int
    """Its pixels."""

    height: int
    """Rows from its first to its last."""


def text_boxes(is_text_HW: NDArray[np.bool_]) -> list[Box]:
    """Return the 8-connected regions, in the order of their first pixel.

    Joins runs of set pixels row by row with union-find: a few hundred runs for a full page, so
    plain Python takes a millisecond or two and OpenCV stays out of the router.
    """
    edges_HW = np.diff(np.pad(is_text_HW, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(edges_HW == 1)
    ends = np.nonzero(edges_HW == -1)[1]
    runs = list(zip(rows.tolist(), starts.tolist(), ends.tolist(), strict=True))
    parents = list(range(len(runs)))
    above = 0
    for index, (row, start, end) in enumerate(runs):
        while (runs[above][0], runs[above][2]) < (row - 1, start):
            above += 1
        other = above
        while runs[other][0] == row - 1 and runs[other][1] <= end:
            _join(parents, other, index)
            other += 1
    return _measure(runs, parents)


def _root(parents: list[int], index: int) -> int:
    """Return the region's first run, shortening the way to it."""
    while parents[index] != index:
        parents[index] = parents[parents[index]]
        index = parents[index]
    return index


def _join(parents: list[int], one: int, other: int) -> None:
    """Make two runs one region, named by its first run."""
    first, second = sorted((_root(parents, one), _root(parents, other)))
    parents[second] = first


def _measure(runs: list[tuple[int, int, int]], parents: list[int]) -> list[Box]:
    """Return area and height of each region."""
    areas: dict[int, int] = {}
    last_rows: dict[int, int] = {}
    for index, (row, start, end) in enumerate(runs):
        root = _root(parents, index)
        areas[root] = areas.get(root, 0) + end - start
        last_rows[root] = row
    return [Box(areas[root], last_rows[root] - runs[root][0] + 1) for root in areas]
