"""Drawing on a 64 x 64 picture that remembers what each 8 x 8 patch shows.

Everything drawn is a stamp: a mask of opacities laid down in one colour. Masks are cached, so a
picture costs a fraction of a millisecond.
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIDE: Final = 64
PATCH: Final = 8
GRID: Final = SIDE // PATCH
SUPERSAMPLING: Final = 4
PALE_SUM: Final = 3 * 128
EVEN: Final = 0.5
"""The chance of a fair coin."""

COLOURS: Final[dict[str, tuple[int, int, int]]] = {
    "red": (215, 35, 35),
    "orange": (245, 140, 20),
    "yellow": (235, 210, 30),
    "green": (40, 150, 60),
    "blue": (40, 80, 215),
    "purple": (140, 50, 170),
    "black": (25, 25, 25),
}
SHAPES: Final = ("circle", "square", "triangle", "star", "cross", "diamond", "ring")
GLYPHS: Final = string.digits + string.ascii_lowercase + "+-"
MAX_BAR: Final = 8
PATCH_NAMES: Final = (
    "empty",
    *(f"glyph {glyph}" for glyph in GLYPHS),
    *(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES),
    "bar",
    *(f"bar top {value}" for value in range(1, MAX_BAR + 1)),
    "dot",
    "two dots",
    "line",
)
"""What a patch may show; the index is the label."""
LABELS: Final = {name: index for index, name in enumerate(PATCH_NAMES)}

_MATPLOTLIB_FONTS: Final = (
    "DejaVuSans.ttf",
    "DejaVuSans-Bold.ttf",
    "DejaVuSansMono.ttf",
    "DejaVuSerif.ttf",
    "STIXGeneral.ttf",
)
NUM_FONTS: Final = 1 + len(_MATPLOTLIB_FONTS)


class Canvas:
    """A picture being drawn: pixels (64, 64, 3) in 0..255 and a label for each patch."""

    def __init__(self, background: tuple[int, int, int]) -> None:
        """Start with a plain background."""
        self.is_pale = sum(background) > PALE_SUM
        self.pixels = np.empty((SIDE, SIDE, 3), dtype=np.float32)
        self.pixels[:] = background
        self.patches = np.zeros((GRID, GRID), dtype=np.int64)
        self._coverage = np.full((GRID, GRID), 5.0, dtype=np.float32)

    def stamp(
        self,
        mask: NDArray[np.float32],
        top_left: tuple[int, int],
        colour: tuple[int, int, int],
        name: str | None = None,
    ) -> None:
        """Lay a mask down in one colour.

        Args:
            mask: Opacity in 0..1, shape (height, width); clipped at the picture's edge.
            top_left: Row and column of the mask's first pixel.
            colour: Red, green, blue in 0..255.
            name: What the mask shows; a patch takes the name that covers most of it.
        """
        top, left = top_left
        rows = slice(max(top, 0), min(top + mask.shape[0], SIDE))
        columns = slice(max(left, 0), min(left + mask.shape[1], SIDE))
        inside = mask[
            rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
        ]
        opacity = inside[:, :, None]
        area = self.pixels[rows, columns]
        area += opacity * (np.asarray(colour, dtype=np.float32) - area)
        if name is not None:
            full = np.zeros((SIDE, SIDE), dtype=np.float32)
            full[rows, columns] = inside
            self._claim(full, LABELS[name])

    def _claim(self, full: NDArray[np.float32], label: int) -> None:
        coverage = full.reshape(GRID, PATCH, GRID, PATCH).sum(axis=(1, 3))
        wins = coverage > self._coverage
        self.patches[wins] = label
        self._coverage[wins] = coverage[wins]

    def add_noise(self, rng: np.random.Generator, sigma: float) -> None:
        """Add Gaussian noise of the given deviation, in grey levels."""
        self.pixels += rng.standard_normal(self.pixels.shape, dtype=np.float32) * sigma

    def image(self) -> Image.Image:
        """Return the picture as RGB, 64 x 64."""
        return Image.fromarray(np.clip(self.pixels, 0, 255).astype(np.uint8), mode="RGB")


@lru_cache(maxsize=256)
def _font(index: int, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    if index == 0:
        return ImageFont.load_default(size)
    spec = find_spec("matplotlib")
    if spec is None or spec.origin is None:
        raise ValueError("matplotlib, whose fonts the pictures use, is not installed")
    folder = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf"
    return ImageFont.truetype(str(folder / _MATPLOTLIB_FONTS[index - 1]), size)


@lru_cache(maxsize=16384)
def glyph_mask(glyph: str, font: int, size: int) -> NDArray[np.float32]:
    """Return one character's opacity; all glyphs of a font and size share height and baseline."""
    face = _font(font, size)
    width = max(round(face.getlength(glyph)), 2)
    picture = Image.new("L", (width, round(size * 1.25)))
    ImageDraw.Draw(picture).text((0, size), glyph, fill=255, font=face, anchor="ls")
    return np.asarray(picture, dtype=np.float32) / 255.0


def _star_points(num_tips: int) -> list[tuple[float, float]]:
    angles = [np.pi * (tip / num_tips - 0.5) for tip in range(2 * num_tips)]
    radii = [0.5 if tip % 2 == 0 else 0.2 for tip in range(2 * num_tips)]
    return [(0.5 + r * np.cos(a), 0.5 + r * np.sin(a)) for r, a in zip(radii, angles, strict=True)]


_POLYGONS: Final[dict[str, list[tuple[float, float]]]] = {
    "square": [(0.06, 0.06), (0.94, 0.06), (0.94, 0.94), (0.06, 0.94)],
    "triangle": [(0.5, 0.03), (1.0, 0.95), (0.0, 0.95)],
    "diamond": [(0.5, 0.0), (0.85, 0.5), (0.5, 1.0), (0.15, 0.5)],
    "star": _star_points(5),
    "cross": [
        (x / 3, y / 3)
        for x, y in (
            (1, 0), (2, 0), (2, 1), (3, 1), (3, 2), (2, 2),
            (2, 3), (1, 3), (1, 2), (0, 2), (0, 1), (1, 1),
        )
    ],
}  # fmt: skip


@lru_cache(maxsize=1024)
def shape_mask(shape: str, size: int) -> NDArray[np.float32]:
    """Return a shape's opacity, (size, size), with smooth edges."""
    side = size * SUPERSAMPLING
    picture = Image.new("L", (side, side))
    draw = ImageDraw.Draw(picture)
    if shape in _POLYGONS:
        draw.polygon([(x * (side - 1), y * (side - 1)) for x, y in _POLYGONS[shape]], fill=255)
    else:
        draw.ellipse((0, 0, side - 1, side - 1), fill=255)
    if shape == "ring":
        rim = side * 0.27
        draw.ellipse((rim, rim, side - 1 - rim, side - 1 - rim), fill=0)
    small = picture.resize((size, size), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32) / 255.0


def light(rng: np.random.Generator) -> tuple[int, int, int]:
    """Draw a pale colour, a background on which every named colour shows."""
    red, green, blue = rng.integers(225, 256, size=3)
    return int(red), int(green), int(blue)


def dark(rng: np.random.Generator) -> tuple[int, int, int]:
    """Draw a dark colour that reads well on a pale one."""
    red, green, blue = rng.integers(0, 110, size=3)
    return int(red), int(green), int(blue)


def jittered(rng: np.random.Generator, colour: str) -> tuple[int, int, int]:
    """Draw a shade of a named colour."""
    red, green, blue = np.clip(np.array(COLOURS[colour]) + rng.integers(-14, 15, size=3), 0, 255)
    return int(red), int(green), int(blue)


@dataclass(frozen=True, kw_only=True, slots=True)
class Hand:
    """How variously a text is written."""

    sizes: tuple[int, int]
    """Least and greatest font size in pixels, both possible."""
    num_fonts: int
    """Only the first ones of the fonts, at most `NUM_FONTS`."""
    shift: int
    """How far from the middle the text may stand, in pixels, each way."""


def write(canvas: Canvas, rng: np.random.Generator, text: str, hand: Hand) -> None:
    """Write a line of text in a random font, size, place and colour, glyph by glyph.

    Args:
        canvas: Where to write; its background must be pale or dark throughout.
        rng: Source of font, size, place and colour.
        text: Characters of `GLYPHS`; what does not fit in width is set smaller.
        hand: Bounds of the variety.
    """
    font = int(rng.integers(hand.num_fonts))
    size = int(rng.integers(hand.sizes[0], hand.sizes[1] + 1))
    masks = [glyph_mask(glyph, font, size) for glyph in text]
    while sum(mask.shape[1] for mask in masks) > SIDE - 4:
        size -= 1
        masks = [glyph_mask(glyph, font, size) for glyph in text]
    left = _around_middle(rng, SIDE - sum(mask.shape[1] for mask in masks), hand.shift)
    top = _around_middle(rng, SIDE - masks[0].shape[0], hand.shift)
    colour = dark(rng) if canvas.is_pale else light(rng)
    for glyph, mask in zip(text, masks, strict=True):
        canvas.stamp(mask, (top, left), colour, f"glyph {glyph}")
        left += mask.shape[1]


def _around_middle(rng: np.random.Generator, room: int, shift: int) -> int:
    """Draw an offset of 0..room pixels at most `shift` from its middle."""
    offset = room // 2 + int(rng.integers(-shift, shift + 1))
    return min(max(offset, 0), room)


def segment_mask(start: tuple[float, float], end: tuple[float, float]) -> NDArray[np.float32]:
    """Return a full-picture mask of a stroke two pixels wide between (row, column) points."""
    picture = Image.new("L", (SIDE * 2, SIDE * 2))
    points = [(start[1] * 2, start[0] * 2), (end[1] * 2, end[0] * 2)]
    ImageDraw.Draw(picture).line(points, fill=255, width=4)
    small = picture.resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32) / 255.0
