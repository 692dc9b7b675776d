"""Check a Serve config before anything is deployed; a fault names file, line and remedy."""

from __future__ import annotations

import ast
import importlib.util
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from deployments.candidates.block import (
    APPLICATION_PREFIX,
    DEPLOYMENT_NAME,
    OpenAIArgs,
    RoutingCard,
    VLLMArgs,
    args_model,
)
from deployments.settings import RouterSettings
from router.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROUTER_APPLICATION = "router"
CANDIDATE_IMPORT = "deployments.candidates:build"
KEY_REMEDY = (
    "put the key in an environment variable and its name, such as VENDOR_API_KEY, in api_key_env"
)

Path_ = tuple[str | int, ...]
T = TypeVar("T", bound=BaseModel)


class ConfigError(ValueError):
    """A Serve config must not be deployed; the message has a line per fault."""


class _Faults:
    """Collects faults with the line that each stands on."""

    def __init__(self, path: Path, root: yaml.Node) -> None:
        self._path = path
        self._root = root
        self.lines: list[str] = []

    def add(self, where: Path_, message: str) -> None:
        self.lines.append(f"{self._path}:{_line(self._root, where)}: {message}")

    def add_validation(self, where: Path_, error: ValidationError) -> None:
        for detail in error.errors(include_url=False):
            path = ".".join(str(part) for part in detail["loc"])
            self.add((*where, *detail["loc"]), f"{path}: {_remedy(detail)}")


def check_serve_config(path: Path, *, root: Path) -> dict[str, Any]:
    """Return the parsed config.

    Args:
        path: The YAML file.
        root: Folder that relative sources are relative to.

    Raises:
        ConfigError: If anything in it would not deploy.
    """
    try:
        text = path.read_text()
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        config = yaml.safe_load(text)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: bytes of no text, no date
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        line = mark.line + 1 if mark else 1
        raise ConfigError(f"{path}:{line}: not YAML: {problem}; mend this line") from None
    if node is None or not isinstance(config, dict):
        raise ConfigError(f"{path}:1: must be a mapping with `applications`")
    faults = _Faults(path, node)
    _check_by_ray(config, faults)
    applications = config.get("applications")
    for i, application in enumerate(applications if isinstance(applications, list) else []):
        if isinstance(application, dict):
            _check_application(application, ("applications", i), faults, root)
    if faults.lines:
        raise ConfigError("\n".join(faults.lines))
    return config


def _check_by_ray(config: dict[str, Any], faults: _Faults) -> None:
    """Let Serve's own schema speak."""
    from ray.serve.schema import ServeDeploySchema  # noqa: PLC0415 - takes seconds

    try:
        ServeDeploySchema.model_validate(config)
    except ValidationError as error:
        faults.add_validation((), error)
    except (AttributeError, TypeError) as error:  # Serve's validators expect mappings
        faults.add((), f"Serve cannot read it ({error}); compare it with infra/serve/local.yaml")


def _check_application(
    application: dict[str, Any], where: Path_, faults: _Faults, root: Path
) -> None:
    name = str(application.get("name", ""))
    if name == ROUTER_APPLICATION:
        _validate(RouterSettings, application.get("args") or {}, (*where, "args"), faults)
        return
    if not name.startswith(APPLICATION_PREFIX):
        faults.add(
            (*where, "name"),
            f"application {name!r} is neither `{ROUTER_APPLICATION}` nor "
            f"`{APPLICATION_PREFIX}<id>`; rename it",
        )
        return
    if application.get("import_path") != CANDIDATE_IMPORT:
        faults.add((*where, "import_path"), f"must be {CANDIDATE_IMPORT} for a candidate")
    if application.get("route_prefix", "/") is not None:
        faults.add(where, f"{name}: add `route_prefix: null`; candidates take no HTTP themselves")
    args = _read_args(application.get("args") or {}, (*where, "args"), faults)
    if args is not None and name != f"{APPLICATION_PREFIX}{args.id}":
        faults.add(
            (*where, "args", "id"), f"id: {args.id!r} does not match the application {name!r}"
        )
    if isinstance(args, VLLMArgs):
        _check_vllm(args, (*where, "args"), faults, root)
    _check_card(application, where, faults)


def _read_args(value: object, where: Path_, faults: _Faults) -> VLLMArgs | OpenAIArgs | None:
    try:
        model = args_model(value)
    except InvalidInputError as error:
        faults.add((*where, error.field), str(error))
        return None
    return _validate(model, value, where, faults)


def _check_vllm(args: VLLMArgs, where: Path_, faults: _Faults, root: Path) -> None:
    is_path = args.source.startswith((".", "/")) or (root / args.source.split("/")[0]).is_dir()
    if is_path and not (root / args.source / "config.json").is_file():
        faults.add((*where, "source"), f"source: no config.json in {args.source}; mend the path")
    known = engine_arguments()
    for key in args.engine:
        if known and key not in known:
            faults.add(
                (*where, "engine", key), f"engine.{key}: vLLM knows no such argument; remove it"
            )


def _check_card(application: dict[str, Any], where: Path_, faults: _Faults) -> None:
    deployments = application.get("deployments")
    for i, deployment in enumerate(deployments if isinstance(deployments, list) else []):
        if isinstance(deployment, dict) and deployment.get("name") == DEPLOYMENT_NAME:
            place = (*where, "deployments", i, "user_config")
            _validate(RoutingCard, deployment.get("user_config") or {}, place, faults)
            return
    faults.add(
        where,
        f"{application['name']}: add a deployment {DEPLOYMENT_NAME!r} with a `user_config`; "
        "it says how the candidate is routed",
    )


def _validate(model: type[T], value: object, where: Path_, faults: _Faults) -> T | None:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        faults.add_validation(where, error)
        return None


@cache
def engine_arguments() -> frozenset[str]:
    """Return the names of vLLM's engine and front-end arguments, read without importing vLLM.

    Importing takes 10 s and 0.6 GB. Empty where vLLM is not installed.
    """
    names: set[str] = set()
    for module, classes in (
        ("engine/arg_utils.py", {"EngineArgs", "AsyncEngineArgs"}),
        ("entrypoints/launchers/cli_args.py", {"BaseFrontendArgs", "FrontendArgs"}),
    ):
        for node in _classes(module, classes):
            names |= {
                statement.target.id
                for statement in node.body
                if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
            }
    return frozenset(names)


def _classes(module: str, names: set[str]) -> Iterator[ast.ClassDef]:
    spec = importlib.util.find_spec("vllm")
    if spec is None or spec.origin is None:
        return
    source = Path(spec.origin).parent / module
    if source.is_file():
        for node in ast.parse(source.read_text()).body:
            if isinstance(node, ast.ClassDef) and node.name in names:
                yield node


def _remedy(detail: Any) -> str:  # noqa: ANN401 - pydantic's error details
    kind, message = detail["type"], detail["msg"]
    name = str(detail["loc"][-1]) if detail["loc"] else ""
    if "key" in name.lower().split("_"):  # before all else: what stands there may be the key
        return KEY_REMEDY
    if kind == "value_error" and isinstance(detail.get("ctx", {}).get("error"), ValueError):
        return str(detail["ctx"]["error"])
    if name == "base_url":
        return "must be an http or https address, such as https://api.example.com/v1"
    if kind == "missing":
        return "missing; add it"
    if kind == "extra_forbidden":
        return "unknown key; remove it or mend the spelling"
    return f"{message[:1].lower()}{message[1:]}, got {detail['input']!r}"[:300]


def _line(node: yaml.Node, where: Sequence[str | int]) -> int:
    """Return the line of the deepest node on a path, from 1."""
    line = node.start_mark.line + 1
    for part in where:
        child, key_line = _child(node, part)
        if child is None:
            break
        node, line = child, key_line
    return line


def _child(node: yaml.Node, part: str | int) -> tuple[yaml.Node | None, int]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(part):
                return value, key.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part].start_mark.line + 1
    return None, 0
