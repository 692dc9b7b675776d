"""Questions about small pictures whose answers are known exactly.

Reading order: `record` (what a question is), `canvas` (how pictures are drawn), `wordings`, then
the tasks of each speciality (`reader`, `charter`, `scene`), and `generator`, which mixes them.
"""

from infra.zoo.questions.generator import SPECIALITIES, TASKS, generate
from infra.zoo.questions.record import Question, grade

__all__ = ["SPECIALITIES", "TASKS", "Question", "generate", "grade"]
