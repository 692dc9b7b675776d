"""The question block: length, form and subject marks of a text, in plain numbers."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from router.features.encoder import fingerprint

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MAX_CHARACTERS = 16_384
"""Read at most; the length itself counts in full."""

_WORD = re.compile(r"[^\W\d_]+")
_NUMBER = re.compile(r"\d+")
_CHOICE = re.compile(r"[(\uff08]([A-Ha-h])[)\uff09]|^\s{0,8}([A-H])[.:)]\s", re.MULTILINE)
_OPTIONS = re.compile(r"\b(?:options|choices)\s?:([^\n]*)", re.IGNORECASE)
_LATEX = re.compile(r"\\[a-zA-Z]+|\$[^$\n]{1,200}\$")
_CODE = re.compile(r"```|\bdef \w|;\s*\n|</\w")
_IMAGE_MARK = re.compile(
    r"<image[ _]?\d*>|\b(?:image|picture|photo|figure|diagram)\b", re.IGNORECASE
)

_MARKS = {
    "asks_count": re.compile(r"\bhow many\b|\bcount\b|\bnumber of\b|多少|几", re.IGNORECASE),
    "asks_what": re.compile(r"\b(?:what|which)\b|什么|哪", re.IGNORECASE),
    "asks_where": re.compile(r"\b(?:where|left|right|above|below|behind)\b", re.IGNORECASE),
    "asks_who_when": re.compile(r"\b(?:who|whose|when|what year)\b", re.IGNORECASE),
    "asks_why_how": re.compile(r"\b(?:why|how (?!many\b))|\bexplain\b|为什么", re.IGNORECASE),
    "asks_yes_no": re.compile(
        r"^\s{0,8}(?:is|are|do|does|did|can|was|has)\b|\byes or no\b|\btrue or false\b",
        re.IGNORECASE,
    ),
    "asks_description": re.compile(r"\b(?:describe|caption|summari[sz]e|write)\b", re.IGNORECASE),
    "asks_calculation": re.compile(
        r"\b(?:calculate|compute|find the|solve|value|area|angle|length|sum)\b", re.IGNORECASE
    ),
    "asks_reading": re.compile(
        r"\b(?:read|text|says?|written|word|letter|table|chart|graph|axis)\b", re.IGNORECASE
    ),
    "asks_comparison": re.compile(
        r"\b(?:\w+er than|compare|same|different|most|least|largest|smallest)\b", re.IGNORECASE
    ),
    "asks_short_answer": re.compile(
        r"\b(?:answer with|only the|single word|curly brackets|return only|one word)\b",
        re.IGNORECASE,
    ),
    "asks_steps": re.compile(r"\bstep[- ]by[- ]step\b|\bthink\b|\breason", re.IGNORECASE),
    "asks_format": re.compile(r"\b(?:json|yaml|markdown|html|csv)\b", re.IGNORECASE),
}


class QuestionStatisticsEncoder:
    """Length, shares of characters, choices, and which kinds of answer are asked for."""

    name: ClassVar[str] = "question-statistics"
    names: ClassVar[tuple[str, ...]] = (
        *("log_num_characters", "log_num_words", "log_num_lines", "mean_word_length"),
        *("digit_share", "upper_share", "symbol_share", "blank_share", "foreign_share"),
        *("cjk_share", "log_num_numbers", "log_num_question_marks", "log_num_choices"),
        *("log_num_latex", "has_code", "log_num_image_marks"),
        *_MARKS,
    )
    dim: ClassVar[int] = len(names)
    sha256: ClassVar[str] = fingerprint(name, 1)

    def encode(self, item: str, /) -> NDArray[np.float32]:
        """Return the statistics in the order of ``names``."""
        text = item[:_MAX_CHARACTERS]
        marks = (mark.search(text) is not None for mark in _MARKS.values())
        return np.array((*_shape(text, len(item)), *_content(text), *marks), dtype=np.float32)


def _shape(text: str, num_characters: int) -> tuple[float, ...]:
    """Return lengths and shares of kinds of characters."""
    kinds = Counter(map(_kind, text))
    words = _WORD.findall(text)
    total = max(1, len(text))
    return (
        np.log1p(num_characters),
        np.log1p(len(words)),
        np.log1p(text.count("\n")),
        sum(map(len, words)) / max(1, len(words)) / 10,
        *(kinds[kind] / total for kind in ("digit", "upper", "symbol", "blank")),
        (kinds["foreign"] + kinds["cjk"]) / total,
        kinds["cjk"] / total,
    )


def _kind(character: str) -> str:
    """Name the kind of a character; exactly one each."""
    if character.isspace():
        return "blank"
    if "\u4e00" <= character <= "\u9fff":
        return "cjk"
    if not character.isascii():
        return "foreign"
    if character.isdigit():
        return "digit"
    if character.isupper():
        return "upper"
    return "lower" if character.isalpha() else "symbol"


def _content(text: str) -> tuple[float, ...]:
    """Return counts of numbers, questions, choices, formulas, code and mentions of a picture."""
    return (
        np.log1p(len(_NUMBER.findall(text))),
        np.log1p(text.count("?") + text.count("\uff1f")),
        np.log1p(num_choices(text)),
        np.log1p(len(_LATEX.findall(text))),
        _CODE.search(text) is not None,
        np.log1p(len(_IMAGE_MARK.findall(text))),
    )


def num_choices(text: str) -> int:
    """Return how many answers a text offers, by letter or in a list after ``Options:``."""
    letters = {(first or second).upper() for first, second in _CHOICE.findall(text)}
    listed = max(
        (line.count(";") + 1 for line in _OPTIONS.findall(text) if line.strip()), default=0
    )
    return max(len(letters) if len(letters) > 1 else 0, listed)
