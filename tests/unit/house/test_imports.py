"""Importing the pure packages does nothing."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
MODULES = sorted(path for name in ("router", "monitoring") for path in (ROOT / name).rglob("*.py"))
EFFECTS = {
    "environ", "getenv", "open", "print", "mkdir", "write_text", "read_text", "read_bytes", "seed",
    "manual_seed", "set_num_threads", "basicConfig", "Thread", "InferenceSession",
}  # fmt: skip
PROBE = """
import importlib, json, logging, pathlib, random, sys, threading
state, levels = random.getstate(), (logging.root.level, len(logging.root.handlers))
for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps({
    "files": sorted(map(str, pathlib.Path().iterdir())),
    "runtimes": sorted({"ray", "vllm", "mlflow", "fastapi", "httpx", "openai"} & set(sys.modules)),
    "logging": levels == (logging.root.level, len(logging.root.handlers)),
    "random": state == random.getstate(),
    "threads": [t.name for t in threading.enumerate() if t.name.startswith("pointsman")],
}))
"""


def _module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _runs_at_import(node):
    """Yield the nodes that are evaluated when a module is imported."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from child.decorator_list if hasattr(child, "decorator_list") else ()
            continue
        if not _is_main_guard(child):
            yield child
            yield from _runs_at_import(child)


def _is_main_guard(node):
    return isinstance(node, ast.If) and "__main__" in ast.unparse(node.test)


@pytest.mark.parametrize("path", MODULES, ids=_module_name)
def test_nothing_is_read_or_written_at_import(path):
    """No call at module level reads a file or the environment, prints, seeds or forks."""
    nodes = _runs_at_import(ast.parse(path.read_text()))
    used = [ast.unparse(node.func) for node in nodes if isinstance(node, ast.Call)]
    assert {name for name in used if EFFECTS & set(name.split("."))} == set()


def test_importing_every_pure_module_leaves_no_trace(tmp_path):
    """After importing all of router and monitoring: no file, no runtime, no logging set up."""
    names = [_module_name(path) for path in MODULES if path.name != "__main__.py"]
    answer = subprocess.run(
        [sys.executable, "-c", PROBE, *names],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    nothing = {"files": [], "runtimes": [], "logging": True, "random": True, "threads": []}
    assert json.loads(answer.stdout) == nothing
