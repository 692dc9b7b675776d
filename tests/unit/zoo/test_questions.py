"""Questions are reproducible, exact, and neutral where they say so."""

from __future__ import annotations

import itertools
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.zoo.questions import SPECIALITIES, TASKS, generate, grade, wordings
from infra.zoo.questions.canvas import COLOURS, LABELS, PATCH_NAMES, SHAPES, Canvas, shape_mask
from infra.zoo.questions.charter import LETTERS
from infra.zoo.questions.reader import WORDS

QUESTIONS = tuple(generate(1200, seed=3))
SIDES = {"left", "right", "above", "below"}
COURSES = {"up", "down", "peak", "dip", "flat"}
ALL_WORDS = set(itertools.chain.from_iterable(WORDS.values()))
THINGS = {f"{colour} {shape}" for colour in COLOURS for shape in SHAPES}
ANSWERS = {
    "number": {str(number) for number in range(10, 10_000)},
    "word": ALL_WORDS,
    "sum": {str(number) for number in range(19)},
    "text_sum": {str(number) for number in range(2, 29)},
    "pair_number": {"first", "second"},
    "tallest": set(LETTERS),
    "value": {str(number) for number in range(1, 9)},
    "count": {str(number) for number in range(2, 9)},
    "trend": COURSES,
    "text_compare": {str(number) for number in range(1, 1000)},
    "pair_count": {"first", "second"},
    "object": set(COLOURS) | set(SHAPES) | THINGS,
    "relation": SIDES,
    "odd": set(COLOURS),
    "pair_colour": {"yes", "no"},
}


def of(task):
    """Pick the questions of one task."""
    return [question for question in QUESTIONS if question.task == task]


def names_shown(patches):
    """Name what the patches of a picture show."""
    return Counter(PATCH_NAMES[label] for label in patches.reshape(-1))


@given(st.integers(0, 2**31 - 1))
@settings(max_examples=10, deadline=None)
def test_a_seed_gives_the_same_questions(seed):
    """The same seed yields equal questions down to the pixels."""
    for first, second in zip(generate(5, seed=seed), generate(5, seed=seed), strict=True):
        assert first == second
        assert [i.tobytes() for i in first.images] == [i.tobytes() for i in second.images]


def test_seeds_differ():
    """Two seeds yield different questions."""
    first = [question.text + question.answer for question in generate(20, seed=1)]
    second = [question.text + question.answer for question in generate(20, seed=2)]
    assert first != second


def test_the_mix_is_uniform_over_specialities_and_difficulties():
    """Each speciality and each difficulty gets about a third."""
    for counts in (
        Counter(question.speciality for question in QUESTIONS),
        Counter(question.difficulty for question in QUESTIONS),
    ):
        assert len(counts) == 3
        assert all(330 <= count <= 470 for count in counts.values())


@pytest.mark.parametrize("speciality", SPECIALITIES)
def test_shares_of_a_speciality_sum_to_one(speciality):
    """No part of a speciality is missing or counted twice."""
    shares = [task.share for task in TASKS.values() if task.speciality == speciality]
    assert sum(shares) == pytest.approx(1.0)


@pytest.mark.parametrize("task", TASKS)
def test_every_task_comes_in_every_difficulty(task):
    """Every task has easy, medium and hard questions."""
    assert {question.difficulty for question in generate(40, seed=1, tasks=[task])} == {1, 2, 3}


@pytest.mark.parametrize("task", TASKS)
def test_answers_come_from_the_task_s_own_set(task):
    """An answer is lower case and one that the task can have."""
    assert {question.answer for question in of(task)} <= ANSWERS[task]


def test_ids_are_unique():
    """No two questions of a stream share an id."""
    assert len({question.question_id for question in QUESTIONS}) == len(QUESTIONS)


def test_pictures_are_small_and_their_number_fits_the_task():
    """Every picture is 64 x 64 RGB; text-only and two-picture questions exist."""
    for question in QUESTIONS:
        expected = 0 if "text_" in question.task else 2 if "pair_" in question.task else 1
        assert len(question.images) == len(question.patches) == expected
        assert all(i.size == (64, 64) and i.mode == "RGB" for i in question.images)


def test_a_third_is_neutral():
    """About a third of all questions have a neutral wording."""
    share = np.mean([question.neutral for question in QUESTIONS])
    assert 0.28 < share < 0.40


def test_neutral_wordings_belong_to_no_task():
    """No neutral wording is also specific, or has a word that gives a task away."""
    telling = re.compile(
        r"number|digit|word|sum|bar|dot|line|chart|colou?r|shape|tall|high|count|larger|more|which"
    )
    for wording in wordings.NEUTRAL:
        assert not telling.search(wording.lower())
    specific = {question.text for question in QUESTIONS if not question.neutral}
    assert not specific & set(wordings.NEUTRAL)


def test_neutral_questions_of_many_tasks_share_their_wordings():
    """Each neutral wording serves at least six tasks, so the wording cannot tell the task."""
    tasks_of = {wording: set() for wording in wordings.NEUTRAL}
    for question in QUESTIONS:
        if question.neutral:
            tasks_of[question.text].add(question.task)
    assert all(len(tasks) >= 6 for tasks in tasks_of.values())


def test_written_answers_are_what_stands_in_the_picture():
    """The glyphs of a number or word are among the patches' names."""
    for question in of("number") + of("word"):
        shown = names_shown(question.patches[0])
        assert any(shown[f"glyph {glyph}"] for glyph in question.answer)
        drawn = {name[-1] for name in shown if name.startswith("glyph")}
        assert drawn <= set(question.answer)


def test_text_sums_are_right():
    """The answer is the sum of the two numbers in the question."""
    for question in of("text_sum"):
        assert int(question.answer) == sum(map(int, re.findall(r"\d+", question.text)))


def test_text_comparisons_are_right():
    """The answer is the larger of the two numbers in the question."""
    for question in of("text_compare"):
        assert int(question.answer) == max(map(int, re.findall(r"\d+", question.text)))


def test_the_tallest_bar_is_the_highest_top():
    """The answer's bar has the greatest value of all bar tops shown."""
    for question in of("tallest"):
        tops = {}
        for column in range(8):
            for label in question.patches[0][:, column]:
                name = PATCH_NAMES[label]
                if name.startswith("bar top"):
                    tops[column] = int(name.split()[-1])
        best = max(tops, key=tops.get)
        assert list(tops.values()).count(tops[best]) == 1
        assert [letter for letter in LETTERS if letter == question.answer]
        order = sorted(tops).index(best)
        assert order == LETTERS.index(question.answer)


def test_counts_are_the_dots_in_the_patches():
    """The answer is the number of dots, unless three share a patch."""
    for question in of("count"):
        shown = names_shown(question.patches[0])
        assert int(question.answer) == shown["dot"] + 2 * shown["two dots"]


def test_things_are_what_the_patches_show():
    """A named thing's colour and shape are those of its patches."""
    for question in of("object"):
        (name,) = {name for name in names_shown(question.patches[0]) if name != "empty"}
        assert question.answer in {name, *name.split()}
        if question.neutral:
            assert question.answer == name


def test_the_odd_colour_appears_once():
    """All other things share one colour."""
    for question in of("odd"):
        shown = names_shown(question.patches[0])
        colours = {name.split()[0] for name in shown if name != "empty"}
        assert question.answer in colours
        assert len(colours) == 2


def test_relations_are_those_of_the_centres():
    """The thing on more patches lies on the answered side of the other; easy ones tell which."""
    signs = {"left": (1, -1), "right": (1, 1), "above": (0, -1), "below": (0, 1)}
    for question in (q for q in of("relation") if q.difficulty == 1):
        shown = Counter(question.patches[0].reshape(-1).tolist())
        del shown[LABELS["empty"]]
        (large, _), (small, _) = shown.most_common(2)
        first, second = (
            np.argwhere(question.patches[0] == thing).mean(axis=0) for thing in (large, small)
        )
        axis, sign = signs[question.answer]
        assert sign * (first - second)[axis] > 0


def test_unknown_tasks_are_refused():
    """A task that does not exist is an error that names it."""
    with pytest.raises(ValueError, match="juggling"):
        next(generate(1, seed=0, tasks=["juggling"]))


@pytest.mark.parametrize(
    ("reply", "score"), [("red", 1.0), (" Red\n", 1.0), ("dark red", 0.0), ("", 0.0)]
)
def test_grading_is_exact_up_to_case_and_space(reply, score):
    """Only the answer itself is right."""
    assert grade("red", reply) == score


def test_a_stamp_is_clipped_at_the_edge():
    """Drawing half outside the picture changes only what is inside."""
    canvas = Canvas((255, 255, 255))
    canvas.stamp(shape_mask("square", 20), (-10, -10), (0, 0, 0), "black square")
    pixels = np.asarray(canvas.image())
    assert pixels[:8, :8].max() == 0
    assert pixels[12:, 12:].min() == 255
    assert canvas.patches[0, 0] == LABELS["black square"]
