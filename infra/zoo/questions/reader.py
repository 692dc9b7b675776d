"""The reader's tasks: text and sums in pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from infra.zoo.questions import wordings
from infra.zoo.questions.canvas import (
    EVEN,
    NUM_FONTS,
    SIDE,
    Canvas,
    Hand,
    dark,
    light,
    segment_mask,
    write,
)
from infra.zoo.questions.record import Draft, Task

if TYPE_CHECKING:
    import numpy as np

WORDS: Final = {
    1: ("cat", "dog", "sun", "map", "key", "bus", "ice", "hat", "pen", "log", "fox", "jam"),
    2: ("fish", "moon", "tree", "ship", "book", "lamp", "road", "king", "wolf", "cake", "door", "milk"),  # noqa: E501 - a table
    3: ("train", "house", "water", "bread", "clock", "money", "plant", "river", "storm", "tiger", "queen", "glove"),  # noqa: E501 - a table
}  # fmt: skip
_HANDS: Final = {
    1: Hand(sizes=(22, 28), num_fonts=3, shift=2),
    2: Hand(sizes=(20, 26), num_fonts=4, shift=4),
    3: Hand(sizes=(17, 24), num_fonts=NUM_FONTS, shift=8),
}
_NOISE: Final = {1: 3.0, 2: 6.0, 3: 12.0}
_DARK_SHARE: Final = {1: 0.1, 2: 0.2, 3: 0.3}


def _page(rng: np.random.Generator, text: str, difficulty: int) -> Canvas:
    """Write the text on a plain page, with clutter and noise as the difficulty asks."""
    canvas = Canvas(dark(rng) if rng.random() < _DARK_SHARE[difficulty] else light(rng))
    for _ in range(difficulty - 1):
        rows, columns = rng.uniform(0, SIDE, size=2), rng.uniform(0, SIDE, size=2)
        stroke = segment_mask((rows[0], columns[0]), (rows[1], columns[1]))
        canvas.stamp(stroke * 0.35, (0, 0), dark(rng) if rng.random() < EVEN else light(rng))
    write(canvas, rng, text, _HANDS[difficulty])
    canvas.add_noise(rng, _NOISE[difficulty])
    return canvas


def _number_of_digits(rng: np.random.Generator, num_digits: int) -> int:
    return int(rng.integers(10 ** (num_digits - 1), 10**num_digits))


def draw_number(rng: np.random.Generator, difficulty: int) -> Draft:
    """Ask for a number of two, three or four digits, by difficulty."""
    number = str(_number_of_digits(rng, difficulty + 1))
    canvas = _page(rng, number, difficulty)
    text = str(rng.choice(wordings.NUMBER))
    return Draft(text=text, answer=number, canvases=(canvas,), canonical=number)


def draw_word(rng: np.random.Generator, difficulty: int) -> Draft:
    """Ask for a word of three, four or five letters, by difficulty."""
    word = str(rng.choice(WORDS[difficulty]))
    canvas = _page(rng, word, difficulty)
    text = str(rng.choice(wordings.WORD))
    return Draft(text=text, answer=word, canvases=(canvas,), canonical=word)


def draw_sum(rng: np.random.Generator, difficulty: int) -> Draft:
    """Ask for a written sum: within 1..5, within 1..9, or also a difference of such."""
    first, second = (int(term) for term in rng.integers(1, 6 if difficulty == 1 else 10, size=2))
    expression, result = f"{first}+{second}", first + second
    if difficulty == 3 and rng.random() < EVEN:  # noqa: PLR2004 - the hardest
        first, second = max(first, second), min(first, second)
        expression, result = f"{first}-{second}", first - second
    canvas = _page(rng, expression, difficulty)
    text = str(rng.choice(wordings.SUM))
    return Draft(text=text, answer=str(result), canvases=(canvas,), canonical=str(result))


def draw_text_sum(rng: np.random.Generator, difficulty: int) -> Draft:
    """Ask for a sum without a picture: within 1..5, 1..9, or with a first term of 10..19."""
    first, second = (int(term) for term in rng.integers(1, 6 if difficulty == 1 else 10, size=2))
    first += 10 * (difficulty == 3)  # noqa: PLR2004 - the hardest
    text = str(rng.choice(wordings.TEXT_SUM)).format(first=first, second=second)
    return Draft(text=text, answer=str(first + second))


def draw_pair_number(rng: np.random.Generator, difficulty: int) -> Draft:
    """Ask which of two pictures shows the larger number."""
    num_digits = min(difficulty, 2)
    first = second = 0
    while first == second:
        first, second = (_number_of_digits(rng, num_digits) for _ in range(2))
    canvases = (_page(rng, str(first), difficulty), _page(rng, str(second), difficulty))
    answer = "first" if first > second else "second"
    return Draft(text=str(rng.choice(wordings.PAIR_NUMBER)), answer=answer, canvases=canvases)


READER_TASKS: Final = (
    Task(name="number", speciality="reader", share=0.30, draw=draw_number),
    Task(name="word", speciality="reader", share=0.26, draw=draw_word),
    Task(name="sum", speciality="reader", share=0.31, draw=draw_sum),
    Task(name="text_sum", speciality="reader", share=0.08, draw=draw_text_sum),
    Task(name="pair_number", speciality="reader", share=0.05, draw=draw_pair_number),
)
