"""The size of what a reader must hold in the head."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("router", "monitoring", "training", "deployments", "infra")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50


def _name(path):
    return str(path.relative_to(ROOT))


def _functions(path):
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds)]


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_files_are_short(path):
    """A source file has at most 400 lines."""
    assert len(path.read_text().splitlines()) <= MAX_FILE_LINES


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_functions_are_short(path):
    """A function, its docstring included, has at most 50 lines."""
    lengths = {node.name: node.end_lineno - node.lineno + 1 for node in _functions(path)}
    assert {name: n for name, n in lengths.items() if n > MAX_FUNCTION_LINES} == {}
