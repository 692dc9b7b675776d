"""The table of metrics for operators, read from the code that registers them."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KINDS = {"Counter": "counter", "Gauge": "gauge", "Histogram": "histogram"}
PREFIX = "ray_"
"""What Ray puts before each name."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One registered metric."""

    name: str
    """As it is scraped."""

    kind: str
    tags: tuple[str, ...]
    description: str
    group: str
    """First line of the class that registers it."""


def metrics(module: Path) -> Iterator[Metric]:
    """Yield the metrics that the classes of a module register, in the order of its lines.

    Args:
        module: A Python file; it is read, not run.

    Raises:
        ValueError: If a metric's name, tags or description are not written out.
    """
    for block in ast.parse(module.read_text()).body:
        if not isinstance(block, ast.ClassDef):
            continue
        group = (ast.get_docstring(block) or block.name).splitlines()[0]
        calls = (node for node in ast.walk(block) if isinstance(node, ast.Call))
        for call in sorted(calls, key=lambda one: one.lineno):
            if isinstance(call.func, ast.Name) and call.func.id in KINDS:
                yield _metric(call, KINDS[call.func.id], group)


def _metric(call: ast.Call, kind: str, group: str) -> Metric:
    told = {word.arg: word.value for word in call.keywords}
    tags = told.get("tag_keys", ast.Tuple(elts=[]))
    return Metric(
        name=PREFIX + ast.literal_eval(call.args[0]),
        kind=kind,
        tags=ast.literal_eval(tags),
        description=ast.literal_eval(told["description"]),
        group=group,
    )


def table(module: Path) -> str:
    """Return the metrics of a module as Markdown, a table for each class."""
    lines: list[str] = []
    group = ""
    for one in metrics(module):
        if one.group != group:
            group = one.group
            lines += ["", f"**{group}**", "", "| metric | kind | labels | what |"]
            lines.append("|---|---|---|---|")
        labels = ", ".join(f"`{tag}`" for tag in one.tags)
        lines.append(f"| `{one.name}` | {one.kind} | {labels} | {one.description} |")
    return "\n".join(lines) + "\n"
