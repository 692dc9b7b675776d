"""The evidence of learning, in parts: ``python -m infra.evidence.learning``."""

from infra.evidence.parts import Book

BOOK = Book(
    name="learning",
    title="Learning",
    parts=("loop", "newcomer", "studies", "promotion", "kills", "replicas", "log", "scale"),
)
