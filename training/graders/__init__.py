"""Graders: from a reply and the right answer to a quality score, 0 to 1.

`protocol` says what a grader is, `registry` finds one by name, and a `judge` is a model that
scores what no rule can. Rules first: a judge costs money and has a bias; see `judge_bias`.
"""

from training.graders.anls import Anls
from training.graders.choice import MultipleChoice
from training.graders.exact import ExactMatch
from training.graders.numeric import NumericTolerance
from training.graders.protocol import Grader, Judge, Verdict, best_score
from training.graders.registry import GRADERS, GraderOptions, make_grader

__all__ = [
    "GRADERS",
    "Anls",
    "ExactMatch",
    "Grader",
    "GraderOptions",
    "Judge",
    "MultipleChoice",
    "NumericTolerance",
    "Verdict",
    "best_score",
    "make_grader",
]
