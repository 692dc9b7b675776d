"""Step 8, before learning: choose some questions of a set so that all kinds are among them.

Kinds that the set names are taken in turn, so that a rare kind gets as many questions as a common
one until it runs out. Within a kind, or in the whole set where none is named, each question taken
is the one least like those taken before: the greedy k-center rule (Gonzalez 1985) on words of the
text, digits aside, the number of images and the grader. The choice covers; it is no fair sample,
and its mean quality is not that of the whole set.

Axis legend: N = questions of a kind, W = words.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from router.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scipy.sparse import csr_matrix

    from training.asking.question_sets import CalibrationQuestion

MAX_IMAGES_APART = 2
"""Two images or more count alike."""


def choose_questions(
    questions: Sequence[CalibrationQuestion], num: int, *, seed: int = 0
) -> list[CalibrationQuestion]:
    """Return at most ``num`` questions, spread over kinds and over what is asked.

    With the same questions and seed, a smaller choice is the beginning of a larger one, so that a
    run can be continued with more questions.

    Args:
        questions: A set, in any order.
        num: How many; 1 or more.
        seed: Of the first question of each kind, and of the order of kinds.

    Raises:
        InvalidInputError: If ``num`` is below 1.
    """
    if num < 1:
        raise InvalidInputError(f"n must be 1 or more, got {num}", "n")
    if not questions:
        return []
    ordered = sorted(questions, key=lambda question: question.question_id)
    words_NW = TfidfVectorizer(
        ngram_range=(1, 2),
        sublinear_tf=True,
        token_pattern=r"\S+",  # noqa: S106 - a pattern
    ).fit_transform([_words(question) for question in ordered])
    members: dict[str, list[int]] = defaultdict(list)
    for place, question in enumerate(ordered):
        members[question.kind].append(place)
    rng = random.Random(seed)  # noqa: S311 - a sample, not a secret
    queues = []
    for kind in sorted(members):
        places = members[kind]
        first = rng.randrange(len(places))
        queues.append([places[n] for n in farthest_first(words_NW[places], num, first)])
    rng.shuffle(queues)
    turns = (queue[turn] for turn in range(num) for queue in queues if turn < len(queue))
    return [ordered[place] for place, _ in zip(turns, range(num), strict=False)]


def farthest_first(words_NW: csr_matrix, num: int, first: int) -> list[int]:
    """Return rows in the order of the greedy k-center rule, at most ``num``.

    Args:
        words_NW: Rows of length one, so that a product is a cosine.
        num: How many.
        first: The row to begin with.
    """
    chosen = [first]
    nearest_N = np.full(words_NW.shape[0], -np.inf)
    while len(chosen) < min(num, words_NW.shape[0]):
        cosine_N = (words_NW @ words_NW[chosen[-1]].T).toarray()[:, 0]
        nearest_N = np.maximum(nearest_N, cosine_N)
        nearest_N[chosen[-1]] = np.inf
        chosen.append(int(np.argmin(nearest_N)))
    return chosen


def _words(question: CalibrationQuestion) -> str:
    """Return a text of which each word is a feature; there is always one."""
    text = re.sub(r"\d+", "0", " ".join(re.findall(r"\w+", question.text.lower())))
    num_images = min(len(question.images), MAX_IMAGES_APART)
    return f"{text} images={num_images} grader={question.grader}"
