"""The evidence of serving, in parts: ``python -m infra.evidence.serving``."""

from infra.evidence.parts import Book

BOOK = Book(
    name="serving",
    title="Serving",
    parts=("overhead", "encoders", "proxies", "changes", "processes", "endpoints", "soak"),
)
