"""Multiple choice: the right letter, or the text behind it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from router.errors import InvalidInputError
from training.graders.exact import normal

if TYPE_CHECKING:
    from collections.abc import Iterable

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

_ANNOUNCED = re.compile(r"\b(?:answer|option|choice)\b(?:\s+is\b)?\s*:?\s*", re.IGNORECASE)
_DRESS = " \t\r\n*_`\"'([{<"
_ALONE = re.compile(r"[\W_]*([A-Za-z])[\W_]*")
_AT_FRONT = re.compile(r"[\W_]*([A-Z])(?:[)\].:,*]|\s*[-\u2013\u2014:]\s|\s*$|\s*\n)")
_ANY_CASE = re.compile(r"[\W_]*([A-Za-z])(?:[)\].:,*]|\s*$|\s*\n)")
_UPPER = re.compile(r"[\W_]*([A-Z])(?![\w'])")
_SEVERAL = re.compile(
    r"[\W_]*[A-Z][)\]}]?\s*(?:,|/|&|\bor\b|\band\b)\s*[(\[{]?[A-HJ-Z](?![\w'])"  # "B, I think"
)
_BRACKETED = re.compile(r"[(\[{]([A-Za-z])[)\]}]")


@dataclass(frozen=True, slots=True, kw_only=True)
class MultipleChoice:
    """One if the reply names the right choice, by letter or by text.

    Read in this order, the first that fits counts: the whole reply is a choice's text or a letter;
    what follows "the answer is"; a letter in front, as in "B. red"; one letter in brackets; the
    text of one choice alone. A reply that names two choices names none.
    """

    name: ClassVar[str] = "multiple_choice"
    version: ClassVar[str] = "1"

    choices: tuple[str, ...] = ()
    """Texts of A, B, C and so on; letters alone are compared when empty."""

    def __post_init__(self) -> None:
        """Refuse choices that a letter or a text cannot tell apart."""
        texts = [normal(choice) for choice in self.choices]
        if len(texts) > len(LETTERS) or len(set(texts)) != len(texts) or "" in texts:
            raise InvalidInputError(
                f"choices must be at most {len(LETTERS)} different texts, got {self.choices}",
                "choices",
            )

    def score(self, reply: str, answer: str) -> float:
        """Return 1 or 0.

        Args:
            reply: Of a candidate.
            answer: A letter, or the text of a choice.

        Raises:
            InvalidInputError: If the answer names no choice.
        """
        wanted = self._whole(answer)
        if wanted is None:
            raise InvalidInputError(
                f"the answer {answer[:60]!r} is neither a letter nor one of the choices", "answer"
            )
        return float(self.read(reply) == wanted)

    def read(self, reply: str) -> int | None:
        """Return the place of the choice that a reply names; None where it names none or two."""
        found = self._whole(reply)
        if found is None and _SEVERAL.match(reply):
            return None
        if found is None:
            found = self._announced(reply)
        if found is None:
            found = self._letter(_AT_FRONT.match(reply))
        if found is None:
            found = _only(self._place(letter) for letter in _BRACKETED.findall(reply))
        return self._mentioned(reply) if found is None else found

    def _whole(self, text: str) -> int | None:
        stripped = normal(text.strip(_DRESS + ")]}>"))
        for place, choice in enumerate(self.choices):
            if normal(choice) in (stripped, normal(text)):
                return place
        return self._letter(_ALONE.fullmatch(text))

    def _announced(self, reply: str) -> int | None:
        for match in reversed(list(_ANNOUNCED.finditer(reply))):
            rest = reply[match.end() :]
            if _SEVERAL.match(rest):
                return None
            by_text = self._text_in_front(rest)
            found = by_text if by_text is not None else self._letter(_ANY_CASE.match(rest))
            found = self._letter(_UPPER.match(rest)) if found is None else found
            if found is not None:
                return found
        return None

    def _text_in_front(self, text: str) -> int | None:
        """Return the choice whose text begins here; the longest of several."""
        rest = normal(text.lstrip(_DRESS))
        fitting = [
            place
            for place, choice in enumerate(self.choices)
            if len(normal(choice)) > 1
            and re.match(re.escape(normal(choice)) + r"(?!\w)", rest) is not None
        ]
        return max(fitting, key=lambda place: len(self.choices[place]), default=None)

    def _mentioned(self, reply: str) -> int | None:
        """Return the one choice whose text stands in the reply, parts of longer ones aside."""
        text = normal(reply)
        spans = [
            (match.start(), match.end(), place)
            for place, choice in enumerate(self.choices)
            if len(normal(choice)) > 1 or normal(choice).isdigit()
            for match in re.finditer(rf"(?<!\w){re.escape(normal(choice))}(?!\w)", text)
        ]
        return _only(
            place
            for start, end, place in spans
            if not any(s <= start and end <= e and (s, e) != (start, end) for s, e, _ in spans)
        )

    def _letter(self, match: re.Match[str] | None) -> int | None:
        return None if match is None else self._place(match[1])

    def _place(self, letter: str) -> int | None:
        place = LETTERS.index(letter.upper())
        return place if place < (len(self.choices) or len(LETTERS)) else None


def _only(places: Iterable[int | None]) -> int | None:
    """Return the one place that is named, however often; None where two differ."""
    named = {place for place in places if place is not None}
    return named.pop() if len(named) == 1 else None
