"""The set-up: what it decides before it touches the disk."""

from __future__ import annotations

import re

import pytest

from infra import environment
from infra.environment import SetupError, Step

LOCK = environment.LOCKS / "cpu.txt"


def _steps(*names):
    return [Step(name, 1, "key of " + name, lambda: None) for name in names]


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """A place where python and the encoders exist."""
    python = tmp_path / "python"
    python.touch()
    (tmp_path / "encoders").mkdir()
    monkeypatch.setattr(environment, "PYTHON", python)
    monkeypatch.setattr(environment, "ENCODERS", tmp_path / "encoders")
    return tmp_path


def test_other_pythons_are_refused_with_a_remedy():
    """Python 3.12 is refused, and the message says how to get 3.11."""
    with pytest.raises(SetupError, match=r"this is 3\.12.*make PYTHON="):
        environment.check_host((3, 12), "Linux", "x86_64", "cpu")


def test_other_machines_are_refused():
    """The locks hold no build for a Mac."""
    with pytest.raises(SetupError, match="Darwin on arm64"):
        environment.check_host((3, 11), "Darwin", "arm64", "cpu")


def test_unknown_stack_is_refused():
    """POINTSMAN_STACK may be cpu or gpu."""
    with pytest.raises(SetupError, match="'tpu'"):
        environment.check_host((3, 11), "Linux", "x86_64", "tpu")


def test_short_disk_is_refused(monkeypatch):
    """A disk that cannot hold the packages is named with both sizes."""
    monkeypatch.setitem(environment.DISK_NEED_GB, "cpu", 10**6)
    with pytest.raises(SetupError, match=r"1000000 GB and [\d.]+ GB are free"):
        environment.check_disk("cpu")


def test_stack_is_what_the_operator_asks_for():
    """POINTSMAN_STACK wins over what the host has."""
    assert environment.choose_stack({"POINTSMAN_STACK": "gpu"}) == "gpu"


@pytest.mark.parametrize("stack", ["cpu", "gpu"])
def test_lock_pins_everything_by_hash(stack):
    """Every package of a lock has one version and a hash, and uv and setuptools are among them."""
    lock = (environment.LOCKS / f"{stack}.txt").read_text()
    names = re.findall(r"^([a-z0-9._-]+)==", lock, re.MULTILINE)
    assert len(set(names)) == len(names) > 100
    for name in names:
        assert "--hash=sha256:" in environment.locked_block(lock, name)
    assert {"uv", "setuptools", "torch", "ray"} <= set(names)


def test_stacks_agree_on_what_both_hold():
    """Ray, MLflow, PyArrow and transformers have the same version on CPU and on GPU hosts."""
    locks = [(environment.LOCKS / f"{stack}.txt").read_text() for stack in ("cpu", "gpu")]
    for name in ("ray", "mlflow", "pyarrow", "transformers", "numpy", "uv"):
        versions = {environment.locked_block(lock, name).split()[0] for lock in locks}
        assert len(versions) == 1


def test_pip_settings_are_read_by_bare_name():
    """Settings from a file and from the environment are found alike."""
    text = "global.index-url='https://index.example/simple'\n:env:.find-links='a b'\nnonsense\n"
    settings = environment.parse_pip_config(text)
    assert settings == {"index-url": "https://index.example/simple", "find-links": "a b"}


def test_torch_comes_from_a_wheel_folder_that_has_it(tmp_path):
    """A folder of pip's is used only if the very version lies in it."""
    (tmp_path / "torch-2.13.0+cpu-cp311-cp311-linux_x86_64.whl").touch()
    settings = {"find-links": f"nowhere {tmp_path}"}
    assert environment.torch_flags(settings, "2.13.0+cpu") == ["--find-links", str(tmp_path)]
    assert environment.torch_flags(settings, "2.14.0+cpu") == ["--torch-backend", "cpu"]
    assert environment.torch_flags({}, "2.13.0+cpu") == ["--torch-backend", "cpu"]


def test_uv_learns_the_index_of_pip_unless_it_has_its_own():
    """An index set for uv wins over one set for pip."""
    settings = {"index-url": "https://a.example"}
    assert environment.uv_environ({}, settings)["UV_DEFAULT_INDEX"] == "https://a.example"
    own = {"UV_DEFAULT_INDEX": "https://b.example"}
    assert environment.uv_environ(own, settings)["UV_DEFAULT_INDEX"] == "https://b.example"


@pytest.mark.usefixtures("finished")
def test_finished_set_up_does_nothing():
    """With every key in the stamp nothing is pending."""
    steps = _steps("venv", "packages", "project", "encoders")
    assert environment.pending(steps, {step.name: step.key for step in steps}) == []


@pytest.mark.usefixtures("finished")
def test_only_changed_steps_are_pending():
    """A step whose key differs is redone, the others are not."""
    steps = _steps("venv", "packages", "project", "encoders")
    stamp = {step.name: step.key for step in steps} | {"project": "another key"}
    assert [step.name for step in environment.pending(steps, stamp)] == ["project"]


@pytest.mark.usefixtures("finished")
def test_interrupted_packages_start_over():
    """If the packages were being installed when it stopped, everything is redone."""
    steps = _steps("venv", "packages", "project", "encoders")
    stamp = {step.name: step.key for step in steps} | {"packages": environment.UNFINISHED}
    assert environment.pending(steps, stamp) == steps


def test_lost_results_are_made_again(finished):
    """Without encoders they are made; without a python everything is."""
    steps = _steps("venv", "packages", "project", "encoders")
    stamp = {step.name: step.key for step in steps}
    (finished / "encoders").rmdir()
    assert [step.name for step in environment.pending(steps, stamp)] == ["encoders"]
    (finished / "python").unlink()
    assert environment.pending(steps, stamp) == steps


@pytest.mark.parametrize(
    ("output", "advice"),
    [
        ("error sending request for url", "could not be reached"),
        ("broken by 'NewConnectionError(...)'", "could not be reached"),
        ("Hash mismatch for `torch==2.13.0`", "not the file that was locked"),
        ("No space left on device", "disk is full"),
        ("No module named ensurepip", "python3.11-venv"),
        ("something else", "setup.log"),
    ],
)
def test_failures_name_a_remedy(output, advice):
    """What a failed command printed is turned into advice."""
    assert advice in environment.remedy(output)


def test_failed_command_shows_its_last_lines(tmp_path, monkeypatch):
    """The error holds the exit code and the end of the output."""
    for name in ("CACHE", "ROOT"):
        monkeypatch.setattr(environment, name, tmp_path)
    monkeypatch.setattr(environment, "LOG", tmp_path / "setup.log")
    with pytest.raises(SetupError, match=r"(?s)ended with 3.*\| the reason"):
        environment.run_logged(["sh", "-c", "echo the reason; exit 3"])
