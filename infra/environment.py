"""Set up `.venv` from the lock with the standard library alone.

Four steps, each skipped when nothing it depends on has changed: the virtual environment, the
locked packages, the project itself, and the encoders, exported once. A stamp in `.venv` records
a step after it ends, so that a set-up that was stopped goes on with the step that was running.
"""

from __future__ import annotations

import ast
import contextlib
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "pointsman-setup.json"
CACHE = ROOT / ".cache"
LOG = CACHE / "setup.log"
ENCODERS = CACHE / "encoders"
LOCKS = ROOT / "infra" / "locks"
ENCODER_SOURCES = ("build", "export", "weights")

PYTHON_VERSION = (3, 11)
UNFINISHED = "unfinished"
DISK_NEED_GB = {"cpu": 6, "gpu": 20}
TICK_S = 10.0
NETWORK_SIGNS = re.compile(
    r"error sending request|dns error|failed to (fetch|lookup)|connection (refused|reset|error)"
    r"|timed? ?out|name resolution|NewConnectionError|network is unreachable|tls",
    re.IGNORECASE,
)


class SetupError(Exception):
    """The set-up cannot go on; the message names the remedy."""


@dataclass(frozen=True)
class Step:
    """One part of the set-up."""

    name: str
    """Its name in the stamp and on the screen."""

    expected_s: int
    """Usual duration on two cores with an empty package cache, in seconds."""

    key: str
    """Hash of all that it, and the steps before it, depend on."""

    run: Callable[[], None]
    """Does the work; raises SetupError."""


def check_host(version: Sequence[int], system: str, machine: str, stack: str) -> None:
    """Raise SetupError unless the lock can be installed with this Python on this machine."""
    if tuple(version[:2]) != PYTHON_VERSION:
        found = ".".join(map(str, version[:2]))
        raise SetupError(
            f"Python 3.11 is needed and this is {found}. Install it (apt install python3.11 "
            "python3.11-venv, pyenv install 3.11, or uv python install 3.11) and run "
            "`make PYTHON=path/to/python3.11 setup`."
        )
    if (system, machine) != ("Linux", "x86_64"):
        raise SetupError(
            f"The locks are for Linux on x86_64 and this is {system} on {machine}. "
            "Use a container or a virtual machine of that kind."
        )
    if stack not in DISK_NEED_GB:
        raise SetupError(f"POINTSMAN_STACK must be cpu or gpu, got {stack!r}.")


def check_disk(stack: str) -> None:
    """Raise SetupError when the packages would not fit on the disk."""
    free_gb = shutil.disk_usage(ROOT).free / 1e9
    if free_gb < DISK_NEED_GB[stack]:
        raise SetupError(
            f"The {stack} packages need {DISK_NEED_GB[stack]} GB and {free_gb:.1f} GB are free. "
            "Free some space (`uv cache clean`, `pip cache purge`) and run `make setup` again."
        )


def choose_stack(environ: Mapping[str, str]) -> str:
    """Return ``gpu`` on a host with an NVIDIA GPU, else ``cpu``, unless POINTSMAN_STACK is set."""
    if asked := environ.get("POINTSMAN_STACK"):
        return asked
    smi = shutil.which("nvidia-smi")
    if smi is None:
        return "cpu"
    listed = subprocess.run([smi, "-L"], capture_output=True, text=True, check=False)
    return "gpu" if listed.returncode == 0 and "GPU" in listed.stdout else "cpu"


def digest(*parts: bytes) -> str:
    """Return one hash of several byte strings."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(hashlib.sha256(part).digest())
    return whole.hexdigest()


def locked_block(lock: str, package: str) -> str:
    """Return the lines of one package of a lock, hashes included."""
    found = re.search(
        rf"^{re.escape(package)}==\S+ \\\n(?:    --hash=\S+(?: \\)?\n)+", lock, re.MULTILINE
    )
    if found is None:
        raise SetupError(f"the lock names no {package}; run `make lock`")
    return found.group(0)


def parse_pip_config(text: str) -> dict[str, str]:
    """Return pip's settings by bare name from the output of ``pip config list``."""
    settings = {}
    for line in text.splitlines():
        name, _, value = line.partition("=")
        with contextlib.suppress(ValueError, SyntaxError):
            settings[name.rsplit(".", 1)[-1]] = str(ast.literal_eval(value))
    return settings


def torch_flags(settings: Mapping[str, str], version: str) -> list[str]:
    """Tell uv where the CPU build of torch is: a wheel folder of pip's, else uv's own index."""
    for place in settings.get("find-links", "").split():
        folder = Path(place.removeprefix("file://"))
        if any(folder.glob(f"torch-{version}-*.whl")):
            return ["--find-links", str(folder)]
    return ["--torch-backend", "cpu"]


def uv_environ(environ: Mapping[str, str], settings: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for uv: pip's index and certificates unless uv has its own."""
    result = dict(environ)
    result.pop("VIRTUAL_ENV", None)
    result.setdefault("UV_HTTP_TIMEOUT", "180")
    result.setdefault("UV_PYTHON_DOWNLOADS", "never")
    if "index-url" in settings and not {"UV_INDEX_URL", "UV_DEFAULT_INDEX"} & set(environ):
        result["UV_DEFAULT_INDEX"] = settings["index-url"]
    if "cert" in settings:
        result.setdefault("SSL_CERT_FILE", settings["cert"])
    return result


def run_logged(command: Sequence[str], environ: Mapping[str, str] | None = None) -> None:
    """Run a command, its output in the log; raise SetupError with the last lines if it fails."""
    CACHE.mkdir(exist_ok=True)
    with LOG.open("w") as log:
        log.write("$ " + " ".join(command) + "\n")
        log.flush()
        with subprocess.Popen(
            command, cwd=ROOT, env=environ, stdout=log, stderr=subprocess.STDOUT
        ) as process:
            start = time.monotonic()
            try:
                while process.poll() is None:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(timeout=TICK_S)
                        break
                    say(f"    ... {time.monotonic() - start:.0f} s")
            except BaseException:
                process.terminate()
                raise
    if process.returncode:
        text = LOG.read_text(errors="replace")
        tail = "\n".join("    | " + line for line in text.splitlines()[-15:])
        raise SetupError(f"{command[0]} ended with {process.returncode}:\n{tail}\n{remedy(text)}")


def remedy(text: str) -> str:
    """Return the advice that fits the output of a failed command."""
    if "ensurepip" in text:
        return "Python's venv module is incomplete: install python3.11-venv and run again."
    if "No space left" in text:
        return "The disk is full: free some space and run `make setup` again."
    if "hash mismatch" in text.lower() or "do not match the hashes" in text.lower():
        return "A download is not the file that was locked: check the index, then run `make lock`."
    if NETWORK_SIGNS.search(text):
        return (
            "The package index could not be reached. Check the network, the proxy variables and "
            "the index that pip or uv is configured to use, then run `make setup` again; "
            "finished downloads are kept."
        )
    return f"The whole output is in {LOG.relative_to(ROOT)}."


def say(message: str) -> None:
    """Print one line at once."""
    sys.stdout.write(message + "\n")
    sys.stdout.flush()


def base_python() -> str:
    """Return the Python outside any virtual environment, so that `.venv` may be cleared."""
    base = Path(sys.base_prefix, "bin", "python{}.{}".format(*PYTHON_VERSION))
    return str(base) if base.exists() else sys.executable


def make_venv() -> None:
    """Create `.venv`; keep one that runs the right Python, clear one that does not."""
    probe = "import sys; print(*sys.version_info[:2], sys.prefix, sep='|')"
    wanted = f"{PYTHON_VERSION[0]}|{PYTHON_VERSION[1]}|{VENV}"
    with contextlib.suppress(OSError):
        answer = subprocess.run([PYTHON, "-c", probe], capture_output=True, text=True, check=False)
        if answer.stdout.strip() == wanted and read_stamp().get("packages") != UNFINISHED:
            return
    run_logged([base_python(), "-m", "venv", "--clear", str(VENV)])


def pip_settings() -> dict[str, str]:
    """Return what the host has configured for pip, by whichever pip there is."""
    for python in (base_python(), str(PYTHON)):
        with contextlib.suppress(OSError):
            command = [python, "-m", "pip", "config", "list"]
            listed = subprocess.run(command, capture_output=True, text=True, check=False)
            if listed.returncode == 0:
                return parse_pip_config(listed.stdout)
    return {}


def find_uv(lock: str) -> str:
    """Return the path of the locked uv in `.venv`, installed by pip if it is not there."""
    uv = VENV / "bin" / "uv"
    block = locked_block(lock, "uv")
    version = block.split()[0].partition("==")[2]
    with contextlib.suppress(OSError):
        answer = subprocess.run([uv, "--version"], capture_output=True, text=True, check=False)
        if answer.stdout.split()[1:2] == [version]:
            return str(uv)
    if not (VENV / "bin" / "pip").exists():
        run_logged([str(PYTHON), "-m", "ensurepip"])
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as wanted:
        wanted.write(block)
        wanted.flush()
        pip = [str(PYTHON), "-m", "pip", "install", "--no-deps", "--require-hashes"]
        run_logged([*pip, "--force-reinstall", "-r", wanted.name])
    return str(uv)


def install_packages(stack: str) -> None:
    """Make `.venv` hold exactly what the lock names."""
    check_disk(stack)
    lock_path = LOCKS / f"{stack}.txt"
    lock = lock_path.read_text()
    settings = pip_settings()
    flags = []
    if stack == "cpu":
        flags = torch_flags(settings, locked_block(lock, "torch").split()[0].partition("==")[2])
    uv = find_uv(lock)
    run_logged(
        [uv, "pip", "sync", "--python", str(PYTHON), "--require-hashes", *flags, str(lock_path)],
        uv_environ(os.environ, settings),
    )


def install_project() -> None:
    """Install this repository editable, so that its entry points exist."""
    options = ["--python", str(PYTHON), "--no-deps", "--no-build-isolation"]
    uv = str(VENV / "bin" / "uv")
    run_logged([uv, "pip", "install", *options, "-e", "."], uv_environ(os.environ, {}))


def build_encoders() -> None:
    """Export the encoders beside their place, then move them into it at once."""
    partial = ENCODERS.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    run_logged([str(PYTHON), "-m", "router.features.build", "--out", str(partial)])
    shutil.rmtree(ENCODERS, ignore_errors=True)
    partial.replace(ENCODERS)


def plan(stack: str) -> list[Step]:
    """Return the steps in order, each with a key that contains the keys before it."""
    host = f"{platform.python_version()} {sys.base_prefix} {ROOT} {stack}"
    venv = digest(host.encode())
    packages = digest(venv.encode(), (LOCKS / f"{stack}.txt").read_bytes())
    project = digest(packages.encode(), (ROOT / "pyproject.toml").read_bytes())
    sources = [ROOT / "router" / "features" / f"{name}.py" for name in ENCODER_SOURCES]
    encoders = digest(packages.encode(), *(path.read_bytes() for path in sources))
    return [
        Step("venv", 4, venv, make_venv),
        Step("packages", 45, packages, lambda: install_packages(stack)),
        Step("project", 3, project, install_project),
        Step("encoders", 15, encoders, build_encoders),
    ]


def pending(steps: Sequence[Step], stamp: Mapping[str, str]) -> list[Step]:
    """Return the steps whose key is not in the stamp or whose result is gone."""
    gone = set()
    if not PYTHON.exists() or stamp.get("packages") == UNFINISHED:
        gone = {step.name for step in steps}
    elif not ENCODERS.is_dir():
        gone = {"encoders"}
    return [step for step in steps if step.name in gone or stamp.get(step.name) != step.key]


def read_stamp() -> dict[str, str]:
    """Return the key of each finished step; empty when there is no readable stamp."""
    try:
        stamp = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def write_stamp(stamp: Mapping[str, str]) -> None:
    """Replace the stamp in one move, so that it is never half written."""
    VENV.mkdir(exist_ok=True)
    draft = STAMP.with_suffix(".tmp")
    draft.write_text(json.dumps(stamp, indent=1))
    draft.replace(STAMP)


@contextlib.contextmanager
def alone() -> Iterator[TextIO]:
    """Hold the set-up lock; a second set-up waits for the first."""
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "setup.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another set-up is running; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock


def set_up() -> None:
    """Bring `.venv` and `.cache/encoders` up to date."""
    stack = choose_stack(os.environ)
    check_host(sys.version_info[:2], platform.system(), platform.machine(), stack)
    steps = plan(stack)
    if not pending(steps, read_stamp()):
        say("set-up is current")
        return
    with alone():
        todo = pending(steps, read_stamp())
        total = sum(step.expected_s for step in todo)
        say(f"setting up the {stack} stack in .venv: usually {total} s, longer on a slow network")
        begin = time.monotonic()
        for step in todo:
            start = time.monotonic()
            say(f"  {step.name}: usually {step.expected_s} s")
            if step.name != "venv":
                write_stamp({**read_stamp(), step.name: UNFINISHED})
            step.run()
            write_stamp({**read_stamp(), step.name: step.key})
            say(f"  {step.name}: done in {time.monotonic() - start:.1f} s")
        say(f"set-up done in {time.monotonic() - begin:.0f} s")


def main() -> int:
    """Set up and return the exit code."""
    try:
        set_up()
    except SetupError as error:
        sys.stderr.write(f"set-up failed: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("set-up stopped; `make setup` goes on from here\n")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
