"""Resolve `pyproject.toml` again into `infra/locks`: `make lock`."""

from __future__ import annotations

import os
import sys

from infra.environment import (
    LOCKS,
    VENV,
    SetupError,
    locked_block,
    pip_settings,
    run_logged,
    say,
    torch_flags,
    uv_environ,
)


def compile_command(stack: str, torch_source: list[str]) -> list[str]:
    """Return the uv command that writes one lock, keeping every version that still fits."""
    wanted = ["pyproject.toml"]
    wanted += [part for extra in (stack, "dev", "build") for part in ("--extra", extra)]
    wanted += ["--overrides", f"infra/locks/overrides-{stack}.txt"]
    return _compile([*wanted, *torch_source], stack)


def litellm_command() -> list[str]:
    """Return the same for the gateway that `infra.evidence.serving` compares with."""
    return _compile(["infra/locks/litellm.in"], "litellm")


def _compile(wanted: list[str], name: str) -> list[str]:
    command = [str(VENV / "bin" / "uv"), "pip", "compile", *wanted, "--quiet"]
    command += ["--generate-hashes", "--no-emit-find-links", "--custom-compile-command"]
    command += ["make lock", "--python-version", "3.11"]
    command += ["--python-platform", "x86_64-manylinux_2_28"]
    return [*command, "-o", f"infra/locks/{name}.txt"]


def write_locks() -> None:
    """Write all locks."""
    settings = pip_settings()
    torch = locked_block((LOCKS / "cpu.txt").read_text(), "torch").split()[0].partition("==")[2]
    sources = {"cpu": torch_flags(settings, torch), "gpu": []}
    for stack, source in sources.items():
        say(f"  resolving infra/locks/{stack}.txt")
        run_logged(compile_command(stack, source), uv_environ(os.environ, settings))
    say("  resolving infra/locks/litellm.txt")
    run_logged(litellm_command(), uv_environ(os.environ, settings))


if __name__ == "__main__":
    try:
        write_locks()
    except SetupError as error:
        sys.exit(f"locking failed: {error}")
