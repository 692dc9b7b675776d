"""The scene model's tasks: shapes, colours and where things are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from infra.zoo.questions import wordings
from infra.zoo.questions.canvas import (
    COLOURS,
    EVEN,
    SHAPES,
    SIDE,
    Canvas,
    jittered,
    light,
    segment_mask,
    shape_mask,
)
from infra.zoo.questions.record import Draft, Task

if TYPE_CHECKING:
    import numpy as np

_NOISE: Final = {1: 3.0, 2: 6.0, 3: 12.0}
_SINGLE_SIZES: Final = {1: (34, 48), 2: (26, 38), 3: (18, 28)}
_SIDES: Final = {"left": (0, -1), "right": (0, 1), "above": (-1, 0), "below": (1, 0)}


def _place(
    canvas: Canvas,
    rng: np.random.Generator,
    thing: tuple[str, str],
    centre: tuple[float, float],
    size: int,
) -> None:
    """Stamp a (colour, shape) with its centre at (row, column), in pixels."""
    colour, shape = thing
    top_left = round(centre[0] - size / 2), round(centre[1] - size / 2)
    canvas.stamp(shape_mask(shape, size), top_left, jittered(rng, colour), f"{colour} {shape}")


def _thing(rng: np.random.Generator) -> tuple[str, str]:
    return str(rng.choice(list(COLOURS))), str(rng.choice(SHAPES))


def _ground(rng: np.random.Generator, difficulty: int) -> Canvas:
    """Draw a pale ground, with faint strokes on the harder ones."""
    canvas = Canvas(light(rng))
    for _ in range(2 * (difficulty - 1)):
        rows, columns = rng.uniform(0, SIDE, size=2), rng.uniform(0, SIDE, size=2)
        stroke = segment_mask((rows[0], columns[0]), (rows[1], columns[1]))
        canvas.stamp(stroke * 0.3, (0, 0), (120, 120, 120))
    return canvas


def _single(rng: np.random.Generator, thing: tuple[str, str], difficulty: int) -> Canvas:
    canvas = _ground(rng, difficulty)
    low, high = _SINGLE_SIZES[difficulty]
    size = int(rng.integers(low, high + 1))
    row, column = rng.uniform(size / 2, SIDE - size / 2, size=2)
    _place(canvas, rng, thing, (row, column), size)
    canvas.add_noise(rng, _NOISE[difficulty])
    return canvas


def draw_object(rng: np.random.Generator, difficulty: int) -> Draft:
    """Ask for the colour, the shape, or both, of one thing."""
    colour, shape = thing = _thing(rng)
    both = f"{colour} {shape}"
    choices = ((wordings.COLOUR, colour), (wordings.SHAPE, shape), (wordings.OBJECT, both))
    texts, answer = choices[int(rng.integers(3))]
    canvas = _single(rng, thing, difficulty)
    return Draft(text=str(rng.choice(texts)), answer=answer, canvases=(canvas,), canonical=both)


def _distinct_things(rng: np.random.Generator, num_things: int) -> list[tuple[str, str]]:
    colours = rng.choice(list(COLOURS), num_things, replace=False)
    shapes = rng.choice(SHAPES, num_things, replace=False)
    return [(str(colour), str(shape)) for colour, shape in zip(colours, shapes, strict=True)]


def draw_relation(rng: np.random.Generator, difficulty: int) -> Draft:
    """Ask on which side of a small thing a large one lies."""
    side = str(rng.choice(list(_SIDES)))
    down, across = _SIDES[side]
    things = _distinct_things(rng, 2)
    large = int(rng.integers(20, 25))
    small = int(rng.integers(9, 12)) + 2 * (difficulty - 1)
    middle = rng.uniform(28, 36, size=2)
    reach = rng.uniform(12, 17)
    lean = rng.uniform(-1, 1) * (2 if difficulty == 1 else 5)
    first = middle[0] + down * reach + across * lean, middle[1] + across * reach + down * lean
    second = middle[0] - down * reach - across * lean, middle[1] - across * reach - down * lean
    canvas = _ground(rng, difficulty)
    for thing, centre, size in zip(things, (first, second), (large, small), strict=True):
        _place(canvas, rng, thing, centre, size)
    canvas.add_noise(rng, _NOISE[difficulty])
    return Draft(text=str(rng.choice(wordings.RELATION)), answer=side, canvases=(canvas,))


def draw_odd(rng: np.random.Generator, difficulty: int) -> Draft:
    """Ask for the colour that only one of four, or of nine, things has."""
    num_side = 2 if difficulty == 1 else 3
    common, odd = (str(colour) for colour in rng.choice(list(COLOURS), 2, replace=False))
    odd_place = int(rng.integers(num_side**2))
    pitch = SIDE / num_side
    same_shape = str(rng.choice(SHAPES))
    canvas = _ground(rng, difficulty)
    for place in range(num_side**2):
        shape = same_shape if difficulty < 3 else str(rng.choice(SHAPES))  # noqa: PLR2004 - the hardest
        row, column = (place // num_side + 0.5) * pitch, (place % num_side + 0.5) * pitch
        shift = rng.uniform(-2, 2, size=2)
        size = int(rng.integers(int(pitch * 0.55), int(pitch * 0.75)))
        thing = (odd if place == odd_place else common, shape)
        _place(canvas, rng, thing, (row + shift[0], column + shift[1]), size)
    canvas.add_noise(rng, _NOISE[difficulty])
    return Draft(text=str(rng.choice(wordings.ODD)), answer=odd, canvases=(canvas,), canonical=odd)


def draw_pair_colour(rng: np.random.Generator, difficulty: int) -> Draft:
    """Ask whether the things in two pictures have the same colour."""
    (first, first_shape), (second, second_shape) = _distinct_things(rng, 2)
    second = first if rng.random() < EVEN else second
    canvases = (
        _single(rng, (first, first_shape), difficulty),
        _single(rng, (second, second_shape), difficulty),
    )
    answer = "yes" if first == second else "no"
    return Draft(text=str(rng.choice(wordings.PAIR_COLOUR)), answer=answer, canvases=canvases)


SCENE_TASKS: Final = (
    Task(name="object", speciality="scene", share=0.38, draw=draw_object),
    Task(name="relation", speciality="scene", share=0.27, draw=draw_relation),
    Task(name="odd", speciality="scene", share=0.30, draw=draw_odd),
    Task(name="pair_colour", speciality="scene", share=0.05, draw=draw_pair_colour),
)
