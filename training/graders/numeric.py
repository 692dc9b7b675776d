"""Numeric tolerance: the right number, however it is written."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from router.errors import InvalidInputError

_SCALES = {
    "": 1.0,
    "k": 1e3, "thousand": 1e3,
    "m": 1e6, "mn": 1e6, "million": 1e6,
    "b": 1e9, "bn": 1e9, "billion": 1e9,
    "t": 1e12, "tn": 1e12, "trillion": 1e12,
}  # fmt: skip
_NUMBER = re.compile(
    r"(?<![\w.,])"  # not the tail of a word or of another number
    r"(?:(?P<open>\()\s*)?"
    r"(?P<sign>[-+\u2212])?"  # close to its number: "answer - 42" is not below zero
    r"(?:(?:US|A|C)?[$\u20ac\u00a3\u00a5\u20b9]\s*)?"
    r"(?P<inner>[-\u2212])?"
    r"(?P<digits>\d{1,3}(?:[,\u00a0\u202f']\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
    r"(?:[eE](?P<exponent>[-+]?\d{1,3}))?"
    r"(?:(?P<scale>mn|bn|tn|[kmbt])(?!\w)"  # "3 m" are metres as often as millions
    r"|\s?(?P<word>thousand|million|billion|trillion)\b)?"
    r"\s*(?P<percent>%|per\s?cent\b)?"
    r"\s*(?P<close>\))?",
    re.IGNORECASE,
)
_ANNOUNCED = re.compile(r"\b(?:answer|result|total|value)\s*(?:is|was|:|=)+", re.IGNORECASE)


class Number(NamedTuple):
    """A number as it stands in a text."""

    value: float
    """Scale words applied, a percent sign not: ``12 %`` is 12."""

    is_percent: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NumericTolerance:
    """One if the reply's number lies within a tolerance of the answer's.

    ``|reply - answer| <= max(absolute, relative * |answer|)``. Where only one of the two has a
    percent sign, 12 and 0.12 both stand for 12 %. Of several numbers in a reply the one announced
    by words like "the answer is" counts, else the last. Thousands are parted by commas, decimals
    by a point.
    """

    name: ClassVar[str] = "numeric"
    version: ClassVar[str] = "1"

    relative: float = 0.0
    """Share of the answer by which a reply may be off; 0.05 is ChartQA's relaxed accuracy."""

    absolute: float = 0.0
    """Units by which a reply may be off."""

    def __post_init__(self) -> None:
        """Refuse a tolerance below zero or without end."""
        for name in ("relative", "absolute"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise InvalidInputError(f"{name} must be 0 or more and finite, got {value}", name)

    def score(self, reply: str, answer: str) -> float:
        """Return 1 or 0; 0 where the reply holds no number.

        Raises:
            InvalidInputError: If the answer holds no number.
        """
        wanted = read_number(answer)
        if wanted is None:
            raise InvalidInputError(f"the answer {answer[:60]!r} holds no number", "answer")
        given = read_number(reply)
        if given is None:
            return 0.0
        return float(any(self._is_near(value, wanted.value) for value in _readings(given, wanted)))

    def _is_near(self, value: float, wanted: float) -> bool:
        # The last term forgives what binary fractions lose: 0.1 + 0.2 for 0.3.
        slack = max(self.absolute, self.relative * abs(wanted)) + 1e-9 * abs(wanted)
        return abs(value - wanted) <= slack


def read_number(text: str) -> Number | None:
    """Return the number that a text comes to, or None where it holds none."""
    announced = list(_ANNOUNCED.finditer(text))
    if announced:
        after = _NUMBER.search(text, announced[-1].end())
        if after is not None:
            return _number(after)
    found = list(_NUMBER.finditer(text))
    return _number(found[-1]) if found else None


def _readings(given: Number, wanted: Number) -> tuple[float, ...]:
    """Return what a number may mean beside the wanted one, in the wanted one's unit."""
    if given.is_percent == wanted.is_percent:
        return (given.value,)
    factor = 0.01 if given.is_percent else 100.0
    return (given.value, given.value * factor)


def _number(match: re.Match[str]) -> Number:
    digits = re.sub(r"[,'\s]", "", match["digits"])
    value = float(f"{digits}e{match['exponent'] or 0}")
    value *= _SCALES[(match["scale"] or match["word"] or "").lower()]
    # Accountants write (1,200) for -1200; a plain (3) in a sentence is no loss.
    in_books = match["open"] and match["close"] and "," in match["digits"]
    if match["sign"] in ("-", "\u2212") or match["inner"] or in_books:
        value = -value
    return Number(value, match["percent"] is not None)
