"""Refuse a commit that holds a secret, a large file, or the address of one machine.

`python -m infra.commit_checks FILE...`; without files, everything that git tracks or would track.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parent.parent
MAX_BYTES = 1_000_000
LARGE_SUFFIXES = (".safetensors",)
"""Trained weights of the zoo and of the first router: they are the product, not a leftover."""
MAX_LARGE_BYTES = 20_000_000

SECRETS = {
    "a private key": r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----",
    "an AWS access key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "a GitHub token": r"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{60,})\b",
    "an API key": r"\bsk-(?:[a-z]+-)?[A-Za-z0-9_-]{32,}\b",
    "a model hub token": r"\bhf_[A-Za-z0-9]{30,}\b",
    "a password in an address": r"://[^/\s:@{}$]+:[^/\s:@{}$]{6,}@(?!example\.)",
}
MACHINES = {
    "a path of one machine": r"(?<![\w.])/(?:root|Users|work|opt/(?:wheels|pypi))(?:/|\b)"
    r"|(?<![\w.])/home/(?!ray\b)\w+",
    "a package index": r"\bpython[h]osted\.org|\bpy[p]i\.org|download\.py[t]orch\.org",
}


def fault_of(path: Path) -> str | None:
    """Return what is wrong with one file, or None."""
    size = path.stat().st_size
    limit = MAX_LARGE_BYTES if path.suffix in LARGE_SUFFIXES else MAX_BYTES
    if size > limit:
        return f"{size / 1e6:.1f} MB; at most {limit / 1e6:.0f} MB may be committed"
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None
    for name, pattern in {**SECRETS, **MACHINES}.items():
        if found := re.search(pattern, text):
            line = text.count("\n", 0, found.start()) + 1
            return f"line {line} holds {name}"
    return None


def tracked() -> list[Path]:
    """Return what git tracks, or would track after `git add`."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],  # noqa: S607 - git is on the path
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / name for name in listed.stdout.split("\0") if name]


def main(arguments: Sequence[str]) -> int:
    """Print the fault of each file; return 1 if there is any."""
    paths = [Path(name) for name in arguments] or tracked()
    faults = {path: fault_of(path) for path in paths if path.is_file()}
    bad = {path: fault for path, fault in faults.items() if fault}
    sys.stderr.writelines(f"{path}: {fault}\n" for path, fault in bad.items())
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
