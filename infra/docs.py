"""Write the generated parts of the documents, or check that they are current.

`make docs` writes them; `make check` runs `python -m infra.docs --check`, which also follows every
relative link and looks up every `make` target that a document names.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from infra import alert_table, metric_table
from infra.grafana import dashboard
from infra.measured import headlines, index

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("router", "monitoring", "training", "deployments", "infra")
STEPS = {
    1: "request",
    2: "features",
    3: "scores",
    4: "mask",
    5: "choice",
    6: "dispatch",
    7: "outcome log",
    8: "retrain",
    9: "registry",
    10: "hot swap",
}
PLAIN_FOLDERS = {
    "docs": "How it is built, and why: architecture, modules, decisions.",
    "docs/evidence": "What was measured for each acceptance line, by which command, on what.",
    "docs/decisions": "One page for each decision: context, alternatives, consequences.",
    "infra/locks": "Every package with its version and hashes, for CPU and for GPU hosts.",
    "infra/prometheus": "What is scraped, and the alert rules.",
    "infra/serve": "Serve configs, one block for each candidate: the file that an operator edits.",
    "tests": "The proof, by kind.",
    "tests/contract": "One suite over every implementation of a protocol.",
    "tests/e2e": "The closed loop on a running platform.",
    "tests/integration": "Real Ray, MLflow and object storage.",
    "tests/unit": "Pure code, in which Ray may not start.",
}
STEP_LINE = re.compile(r"^Steps? (\d+)(?:(?: to | and )(\d+))?[,:]")
MARK = "<!-- generated: {name} (make docs) -->\n"
END = "<!-- end -->"
NO_MODULE = "**no module yet**"


class DocsError(Exception):
    """A document, or what it is made from, is not in order."""


def first_line(module: Path) -> str:
    """Return the first line of a module's docstring."""
    text = ast.get_docstring(ast.parse(module.read_text()))
    if not text:
        raise DocsError(f"{module.relative_to(ROOT)} has no docstring")
    return text.splitlines()[0]


def modules() -> Iterator[Path]:
    """Yield every module of the five packages, package files first."""
    for package in PACKAGES:
        paths = (ROOT / package).rglob("*.py")
        yield from sorted(paths, key=lambda path: (path.parent, path.name != "__init__.py", path))


def describe(folder: Path) -> str:
    """Return the sentence that the tree shows beside a folder."""
    name = str(folder.relative_to(ROOT))
    if (folder / "__init__.py").exists():
        return first_line(folder / "__init__.py")
    if name in PLAIN_FOLDERS:
        return PLAIN_FOLDERS[name]
    raise DocsError(f"{name} needs an __init__.py with a docstring, or a line in infra/docs.py")


def folders() -> Iterator[Path]:
    """Yield the folders that the tree shows: the top ones and one level below."""
    for name in (*PACKAGES, "tests", "docs"):
        yield ROOT / name
        for path in sorted((ROOT / name).iterdir()):
            hidden = path.name.startswith((".", "__"))
            if path.is_dir() and not hidden and any(holds_source(path)):
                yield path


def holds_source(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder that are not compiled leftovers."""
    return (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")


def tree() -> str:
    """Return the folder tree with one sentence a folder."""
    lines = []
    for folder in folders():
        name = folder.relative_to(ROOT)
        indent = "  " * (len(name.parts) - 1)
        lines.append(f"{indent + name.name + '/':<17} {describe(folder)}")
    return "```\n" + "\n".join(lines) + "\n```\n"


def step_numbers(line: str) -> range:
    """Return the steps that a module's first line claims."""
    found = STEP_LINE.match(line)
    if found is None:
        return range(0)
    return range(int(found[1]), int(found[2] or found[1]) + 1)


def steps() -> str:
    """Return the table of the ten steps with the modules that say they belong to each."""
    of_step: dict[int, list[str]] = {number: [] for number in STEPS}
    for module in modules():
        name = module.relative_to(ROOT)
        for number in step_numbers(first_line(module)):
            if number not in of_step:
                raise DocsError(f"{name} claims step {number}; there are {len(STEPS)}")
            of_step[number].append(f"[`{name}`](../{name})")
    rows = [
        f"| {n} | {name} | {'<br>'.join(of_step[n]) or NO_MODULE} |" for n, name in STEPS.items()
    ]
    return "\n".join(["| | step | modules |", "|---|---|---|", *rows]) + "\n"


def module_table() -> str:
    """Return every module with its first sentence."""
    rows = []
    for module in modules():
        name = module.relative_to(ROOT)
        if module.name == "__init__.py":
            rows.append(f"\n## `{name.parent}`\n\n{first_line(module)}\n")
        else:
            rows.append(f"- [`{name}`](../{name}): {first_line(module)}")
    return "\n".join(rows) + "\n"


def metrics() -> str:
    """Return the tables of what the metric endpoint tells."""
    return metric_table.table(ROOT / "deployments" / "metrics.py")


def alerts() -> str:
    """Return the table of alerts."""
    return alert_table.table(ROOT / "infra" / "prometheus" / "alerts.yaml")


def replace_part(text: str, name: str, body: str) -> str:
    """Return a document with one generated part renewed."""
    mark = MARK.format(name=name)
    if text.count(mark) != 1:
        raise DocsError(f"expected one line {mark.strip()!r}")
    head, _, rest = text.partition(mark)
    _, end, tail = rest.partition(END)
    if not end:
        raise DocsError(f"the part {name} has no {END!r}")
    return head + mark + body + END + tail


def renewed() -> dict[Path, str]:
    """Return each file that is generated, or in part, as it should read."""
    parts: dict[str, dict[str, Callable[[], str]]] = {
        "README.md": {"measured": headlines, "tree": tree},
        "docs/architecture.md": {"steps": steps},
        "docs/modules.md": {"modules": module_table},
        "docs/evidence/README.md": {"measured": index},
        "docs/operating.md": {"alerts": alerts, "metrics": metrics},
    }
    result = {}
    for name, makers in parts.items():
        text = (ROOT / name).read_text()
        for part, maker in makers.items():
            text = replace_part(text, part, maker())
        result[ROOT / name] = text
    result[ROOT / "infra/grafana/pointsman.json"] = dashboard.text()
    return result


def documents() -> list[Path]:
    """Return every Markdown file of the repository."""
    nested = [p for name in (*PACKAGES, "docs", "tests") for p in (ROOT / name).rglob("*.md")]
    return sorted([*ROOT.glob("*.md"), *nested])


def broken_references(document: Path, targets: Iterable[str]) -> list[str]:
    """Return what is wrong with the links and the make targets that a document names."""
    text = document.read_text()
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
    named = re.findall(r"(?:`|^)make ([a-z-]+)", text, re.MULTILINE)
    dead = [x for x in links if "://" not in x and not (document.parent / x).exists()]
    unknown = [f"make {target}" for target in named if target not in targets]
    return [f"{document.relative_to(ROOT)}: {x} does not exist" for x in (*dead, *unknown)]


def faults() -> list[str]:
    """Return every reason for which the documents are not current."""
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    found = [fault for document in documents() for fault in broken_references(document, targets)]
    try:
        stale = [
            path
            for path, text in renewed().items()
            if not path.exists() or path.read_text() != text
        ]
    except DocsError as error:
        return [*found, str(error)]
    if NO_MODULE in (ROOT / "docs/architecture.md").read_text():
        found.append("docs/architecture.md: a step has no module; its first line should name it")
    return found + [f"{path.relative_to(ROOT)} is stale; run `make docs`" for path in stale]


def main(arguments: list[str]) -> int:
    """Write the generated parts, or with ``--check`` only look; return the exit code."""
    try:
        if arguments != ["--check"]:
            for path, text in renewed().items():
                path.write_text(text)
    except DocsError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    found = faults()
    sys.stderr.writelines(fault + "\n" for fault in found)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
