"""The charter's tasks: bars, counts and courses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from infra.zoo.questions import wordings
from infra.zoo.questions.canvas import (
    COLOURS,
    GRID,
    LABELS,
    MAX_BAR,
    PATCH,
    SIDE,
    Canvas,
    dark,
    glyph_mask,
    jittered,
    light,
    segment_mask,
    shape_mask,
)
from infra.zoo.questions.record import Draft, Task

if TYPE_CHECKING:
    from numpy.typing import NDArray

LETTERS: Final = "abcdef"
_FLOOR: Final = 54
_UNIT: Final = 6
_NUM_BARS: Final = {1: (3, 4), 2: (4, 5), 3: (5, 6)}
_NUM_DOTS: Final = {1: (2, 4), 2: (4, 6), 3: (6, 8)}
_NOISE: Final = {1: 2.0, 2: 5.0, 3: 10.0}
_MIN_DOT_DISTANCE: Final = 9.0


def _heights(rng: np.random.Generator, num_bars: int, gap: int) -> NDArray[np.int64]:
    """Draw bar heights of 1..8 units whose tallest leads by at least `gap` units."""
    tallest = int(rng.integers(gap + 1, MAX_BAR + 1))
    heights = rng.integers(1, tallest - gap + 1, size=num_bars)
    heights[rng.integers(num_bars)] = tallest
    return heights


def _bar_chart(rng: np.random.Generator, heights: NDArray[np.int64], difficulty: int) -> Canvas:
    """Draw bars over their letters, with a grid line at every unit."""
    canvas = Canvas(light(rng))
    for value in range(MAX_BAR + 1):
        line = np.ones((1, SIDE - 4), dtype=np.float32) * (0.6 if value in (0, 4, 8) else 0.2)
        canvas.stamp(line, (_FLOOR - value * _UNIT, 2), (90, 90, 90))
    pitch = (SIDE - 4) // len(heights)
    width = int(rng.integers(max(pitch - 5, 5), pitch - 1))
    plain = str(rng.choice(list(COLOURS)))
    for index, height in enumerate(heights):
        left = 2 + index * pitch + (pitch - width) // 2
        colour = plain if difficulty == 1 else str(rng.choice(list(COLOURS)))
        _draw_bar(canvas, left, width, int(height), jittered(rng, colour))
        mask = glyph_mask(LETTERS[index], 1, 10)
        canvas.stamp(mask, (_FLOOR - 1, left + (width - mask.shape[1]) // 2), dark(rng))
    canvas.add_noise(rng, _NOISE[difficulty])
    return canvas


def _draw_bar(
    canvas: Canvas, left: int, width: int, height: int, colour: tuple[int, int, int]
) -> None:
    """Draw one bar, `height` units tall, and name the patch of its top."""
    top = _FLOOR - height * _UNIT
    body = np.ones((height * _UNIT, width), dtype=np.float32)
    canvas.stamp(body, (top, left), colour, "bar")
    column = (left + width // 2) // PATCH
    canvas.patches[min(top // PATCH, GRID - 1), column] = LABELS[f"bar top {height}"]


def draw_tallest(rng: np.random.Generator, difficulty: int) -> Draft:
    """Ask for the letter of the tallest of three to six bars."""
    low, high = _NUM_BARS[difficulty]
    heights = _heights(rng, int(rng.integers(low, high + 1)), gap=2 if difficulty == 1 else 1)
    canvas = _bar_chart(rng, heights, difficulty)
    letter = LETTERS[int(heights.argmax())]
    text = str(rng.choice(wordings.TALLEST))
    return Draft(text=text, answer=letter, canvases=(canvas,), canonical=letter)


def draw_value(rng: np.random.Generator, difficulty: int) -> Draft:
    """Ask for one bar's height in units, 1 to 8."""
    low, high = _NUM_BARS[difficulty]
    heights = _heights(rng, int(rng.integers(low, high + 1)), gap=1)
    asked = int(rng.integers(len(heights)))
    text = str(rng.choice(wordings.VALUE)).format(letter=LETTERS[asked])
    canvas = _bar_chart(rng, heights, difficulty)
    return Draft(text=text, answer=str(heights[asked]), canvases=(canvas,))


def _dot_centres(rng: np.random.Generator, num_dots: int) -> NDArray[np.float64]:
    """Draw centres (num_dots, 2) that keep their distance; starts over when it gets crowded."""
    while True:
        centres = rng.uniform(6, SIDE - 6, size=(4 * num_dots, 2))
        kept: list[NDArray[np.float64]] = []
        for centre in centres:
            if all(np.hypot(*(centre - other)) >= _MIN_DOT_DISTANCE for other in kept):
                kept.append(centre)
            if len(kept) == num_dots:
                return np.array(kept)


def _dots(rng: np.random.Generator, num_dots: int, difficulty: int) -> Canvas:
    canvas = Canvas(light(rng))
    plain = str(rng.choice(list(COLOURS)))
    for row, column in _dot_centres(rng, num_dots):
        size = int(rng.integers(6, 8 if difficulty < 3 else 10))  # noqa: PLR2004 - the hardest
        colour = plain if difficulty == 1 else str(rng.choice(list(COLOURS)))
        top_left = round(row - size / 2), round(column - size / 2)
        canvas.stamp(shape_mask("circle", size), top_left, jittered(rng, colour))
        patch = int(row) // PATCH, int(column) // PATCH
        crowded = canvas.patches[patch] != LABELS["empty"]
        canvas.patches[patch] = LABELS["two dots" if crowded else "dot"]
    canvas.add_noise(rng, _NOISE[difficulty])
    return canvas


def _draw_num_dots(rng: np.random.Generator, difficulty: int) -> int:
    low, high = _NUM_DOTS[difficulty]
    return int(rng.integers(low, high + 1))


def draw_count(rng: np.random.Generator, difficulty: int) -> Draft:
    """Ask for the number of dots: 2 to 4, 4 to 6, or 6 to 8."""
    num_dots = _draw_num_dots(rng, difficulty)
    canvas = _dots(rng, num_dots, difficulty)
    text, answer = str(rng.choice(wordings.COUNT)), str(num_dots)
    return Draft(text=text, answer=answer, canvases=(canvas,), canonical=answer)


_COURSES: Final[dict[str, tuple[float, float, float]]] = {
    "up": (0.0, 0.5, 1.0),
    "down": (1.0, 0.5, 0.0),
    "peak": (0.0, 1.0, 0.0),
    "dip": (1.0, 0.0, 1.0),
    "flat": (0.5, 0.5, 0.5),
}
_RISE: Final = {1: 44.0, 2: 32.0, 3: 22.0}


def draw_trend(rng: np.random.Generator, difficulty: int) -> Draft:
    """Ask how a line runs: up, down, peak, dip or flat."""
    course = str(rng.choice(list(_COURSES)))
    rise = _RISE[difficulty]
    foot = rng.uniform(rise + 6, SIDE - 6)
    columns = np.linspace(6, SIDE - 6, 5)
    levels = np.interp(np.linspace(0, 2, 5), [0, 1, 2], _COURSES[course])
    rows = foot - rise * levels + rng.uniform(-0.06, 0.06, size=5) * rise
    canvas, ink = Canvas(light(rng)), jittered(rng, str(rng.choice(list(COLOURS))))
    for end in range(1, 5):
        stroke = segment_mask((rows[end - 1], columns[end - 1]), (rows[end], columns[end]))
        canvas.stamp(stroke, (0, 0), ink, "line")
    canvas.add_noise(rng, _NOISE[difficulty])
    text = str(rng.choice(wordings.TREND))
    return Draft(text=text, answer=course, canvases=(canvas,), canonical=course)


def draw_text_compare(rng: np.random.Generator, difficulty: int) -> Draft:
    """Ask, without a picture, for the larger of two numbers of one, two or three digits."""
    low, high = (1, 10) if difficulty == 1 else (10 ** (difficulty - 1), 10**difficulty)
    first, second = (int(number) for number in rng.choice(np.arange(low, high), 2, replace=False))
    text = str(rng.choice(wordings.TEXT_COMPARE)).format(first=first, second=second)
    return Draft(text=text, answer=str(max(first, second)))


def draw_pair_count(rng: np.random.Generator, difficulty: int) -> Draft:
    """Ask which of two pictures has more dots."""
    first = second = 0
    while first == second:
        first, second = (int(number) for number in rng.integers(2, 9, size=2))
    canvases = (_dots(rng, first, difficulty), _dots(rng, second, difficulty))
    answer = "first" if first > second else "second"
    return Draft(text=str(rng.choice(wordings.PAIR_COUNT)), answer=answer, canvases=canvases)


CHARTER_TASKS: Final = (
    Task(name="tallest", speciality="charter", share=0.27, draw=draw_tallest),
    Task(name="value", speciality="charter", share=0.18, draw=draw_value),
    Task(name="count", speciality="charter", share=0.25, draw=draw_count),
    Task(name="trend", speciality="charter", share=0.17, draw=draw_trend),
    Task(name="text_compare", speciality="charter", share=0.08, draw=draw_text_compare),
    Task(name="pair_count", speciality="charter", share=0.05, draw=draw_pair_count),
)
