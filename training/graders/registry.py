"""Graders by name, so that a question can name its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from router.errors import InvalidInputError
from training.graders.anls import Anls
from training.graders.choice import MultipleChoice
from training.graders.exact import ExactMatch
from training.graders.numeric import NumericTolerance

if TYPE_CHECKING:
    from collections.abc import Callable

    from training.graders.protocol import Grader

JUDGE = "judge"
"""Names a judge instead of a grader; the caller brings one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GraderOptions:
    """What a question may tell its grader; each grader reads what concerns it."""

    choices: tuple[str, ...] = ()
    """Texts of the choices, for ``multiple_choice``."""

    tolerance: float = 0.0
    """Share of the answer, for ``numeric``."""

    absolute_tolerance: float = 0.0
    """Units of the answer, for ``numeric``."""


GRADERS: dict[str, Callable[[GraderOptions], Grader]] = {
    ExactMatch.name: lambda _: ExactMatch(),
    NumericTolerance.name: lambda options: NumericTolerance(
        relative=options.tolerance, absolute=options.absolute_tolerance
    ),
    MultipleChoice.name: lambda options: MultipleChoice(choices=options.choices),
    Anls.name: lambda _: Anls(),
}
"""Maker of each grader."""

NO_OPTIONS = GraderOptions()


def make_grader(name: str, options: GraderOptions = NO_OPTIONS) -> Grader:
    """Return a grader.

    Raises:
        InvalidInputError: If the name is unknown, or an option is out of its bounds.
    """
    if name not in GRADERS:
        raise InvalidInputError(
            f"no grader is named {name[:60]!r}; use one of {', '.join([*GRADERS, JUDGE])}",
            "grader",
        )
    return GRADERS[name](options)
