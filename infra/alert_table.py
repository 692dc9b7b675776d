"""The table of alerts for operators, read from Prometheus's rules."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LABEL = re.compile(r"\{\{ \$labels\.(\w+) \}\}")


def rules(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rules of a file, in its order."""
    for group in yaml.safe_load(path.read_text())["groups"]:
        yield from group["rules"]


def table(path: Path) -> str:
    """Return the rules as a Markdown table."""
    lines = ["| alert | severity | after | what happened | do |", "|---|---|---|---|---|"]
    for rule in rules(path):
        told = rule["annotations"]
        what = LABEL.sub(r"*\1*", told["summary"])
        lines.append(
            f"| `{rule['alert']}` | {rule['labels']['severity']} | {rule.get('for', 'at once')} "
            f"| {what} | {told['description']} |"
        )
    return "\n".join(lines) + "\n"
