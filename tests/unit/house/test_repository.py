"""What a clone must look like."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from infra import commit_checks, docs

ROOT = Path(__file__).resolve().parents[3]


def test_documents_are_current():
    """The generated parts of the documents are fresh and every link leads somewhere."""
    assert docs.faults() == []


@pytest.mark.skipif(shutil.which("git") is None or not (ROOT / ".git").exists(), reason="no clone")
def test_files_may_be_committed():
    """No file holds a secret, a path of one machine or a package index, and none is large."""
    assert commit_checks.main([]) == 0


def test_ci_script_is_executable_and_valid():
    """`.ci/run` can be run, and bash can parse it."""
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    bash = shutil.which("bash")
    subprocess.run([bash, "-n", str(script)], check=True)


def test_every_make_target_says_what_it_does():
    """Each target that is declared phony is shown by `make help`, and no other."""
    text = (ROOT / "Makefile").read_text()
    declared = re.search(r"^\.PHONY: (.+)$", text, re.MULTILINE)[1].split()
    assert sorted(re.findall(r"^([a-z-]+):.*## ", text, re.MULTILINE)) == sorted(declared)


def test_workflow_trusts_nothing_that_can_change():
    """Actions are pinned by their full hash and the workflow may only read."""
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    assert workflow["permissions"] == {}
    for job in workflow["jobs"].values():
        assert set(job["permissions"].values()) <= {"read"}
        used = [step["uses"] for step in job["steps"] if "uses" in step]
        assert all(re.fullmatch(r"[\w/.-]+@[0-9a-f]{40}", action) for action in used)


def test_commit_hooks_fetch_nothing():
    """Every commit hook is local."""
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert {repo["repo"] for repo in config["repos"]} == {"local"}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("key = 'AKIA" + "A" * 16 + "'", "line 1 holds an AWS access key"),
        ("\n-----BEGIN RSA " + "PRIVATE KEY-----", "line 2 holds a private key"),
        ("postgres://mlflow:" + "hunter22@db/x", "line 1 holds a password in an address"),
        ("cd /ro" + "ot/x", "line 1 holds a path of one machine"),
        ("--index-url https://py" + "pi.org/simple", "line 1 holds a package index"),
        ("postgres://mlflow:${PASSWORD}@db/x", None),
        ("https://user:password@example.com/", None),
        ("/home/ray/anaconda3", None),
        ("x" * 1_000_001, "1.0 MB; at most 1 MB may be committed"),
    ],
)
def test_commit_checks_name_the_fault(tmp_path, text, fault):
    """A fault is named with its line; placeholders and container paths are no fault."""
    path = tmp_path / "file.txt"
    path.write_text(text)
    assert commit_checks.fault_of(path) == fault


def test_weights_may_be_larger_than_code(tmp_path):
    """A weights file of 2 MB may be committed."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"\xff" * 2_000_000)
    assert commit_checks.fault_of(path) is None
