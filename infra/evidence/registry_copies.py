"""Copies of a router version in MLflow's registry, sound or with one fault, over HTTP.

A faulty copy is registered sound, and its files in the artifact store are changed afterwards, as
one who can write there would.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import httpx

from router.artifact import DATA_FILES, MANIFEST, QUERIES
from router.certificate import CERTIFICATE, Certificate
from router.features.schema import FeatureSchema

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Files: TypeAlias = "dict[str, bytes]"

SCHEME = "mlflow-artifacts:/"
"""Of artifacts that the MLflow server itself stores."""

EXPERIMENT = "pointsman"
FOLDER = "router"
REFUSED = "pointsman.refused"
QUARANTINED = "pointsman.quarantined"
FOREIGN_ENCODER_SHA256 = "f" * 64
PICKLE = b"\x80\x04N."
"""What ``pickle.dumps(None)`` gives; harmless should anybody load it."""


class CopyError(RuntimeError):
    """A version cannot be copied; says why."""


def tampered(files: Files) -> Files:
    """Change one byte of the weights."""
    weights = files[QUERIES]
    return files | {QUERIES: weights[:-1] + bytes([weights[-1] ^ 1])}


def with_pickle(files: Files) -> Files:
    """Lay a pickle beside the artifact's files."""
    return files | {"model.pkl": PICKLE}


def without_certificate(files: Files) -> Files:
    """Leave the certificate out."""
    return {name: content for name, content in files.items() if name != CERTIFICATE}


def of_foreign_schema(files: Files) -> Files:
    """Claim features of another encoder, consistently: manifest and certificate agree."""
    manifest = json.loads(files[MANIFEST])
    schema = FeatureSchema.from_json(json.dumps(manifest["feature_schema"]))
    first = dataclasses.replace(schema.blocks[0], sha256=FOREIGN_ENCODER_SHA256)
    foreign = FeatureSchema((first, *schema.blocks[1:]))
    manifest["feature_schema"] = json.loads(foreign.to_json())
    manifest["feature_schema_hash"] = foreign.hash
    content = json.dumps(manifest, indent=1, sort_keys=True).encode()
    certificate = Certificate.from_json(files[CERTIFICATE])
    evidence = certificate.evidence.model_copy(
        update={"manifest_sha256": hashlib.sha256(content).hexdigest()}
    )
    vouched = certificate.model_copy(update={"evidence": evidence})
    return files | {MANIFEST: content, CERTIFICATE: vouched.to_json()}


FAULTS: Final[Mapping[str, Callable[[Files], Files]]] = {
    "tampered artifact": tampered,
    "pickle in the folder": with_pickle,
    "no certificate": without_certificate,
    "foreign feature schema": of_foreign_schema,
}


def alias_version(mlflow_uri: str, model: str, alias: str) -> str | None:
    """Return the version that an alias names; None where the model has no such alias."""
    found = _get(mlflow_uri, "registered-models/get", name=model)["registered_model"]
    aliases = {one["alias"]: str(one["version"]) for one in found.get("aliases", [])}
    return aliases.get(alias)


def move_alias(mlflow_uri: str, model: str, alias: str, version: str) -> None:
    """Let an alias name a version."""
    _post(mlflow_uri, "registered-models/alias", name=model, alias=alias, version=version)


def tags_of(mlflow_uri: str, model: str, version: str) -> dict[str, str]:
    """Return a version's tags."""
    found = _get(mlflow_uri, "model-versions/get", name=model, version=version)["model_version"]
    return {tag["key"]: tag["value"] for tag in found.get("tags", [])}


def register_copy(
    mlflow_uri: str,
    model: str,
    version: str,
    *,
    name: str,
    fault: Callable[[Files], Files] | None = None,
) -> str:
    """Register a copy of a version and return its number; no alias is moved.

    Args:
        mlflow_uri: Address of the MLflow server.
        model: The registered model's name.
        version: Of the version that is copied.
        name: What the copy's tag ``name`` says.
        fault: What happens to its files once it is registered; nothing when None.

    Raises:
        CopyError: If the MLflow server does not itself store the version's files.
        httpx.HTTPError: If MLflow refuses.
    """
    found = _get(mlflow_uri, "model-versions/get", name=model, version=version)["model_version"]
    files = _read_files(mlflow_uri, found["source"])
    run = _start_run(mlflow_uri, name)
    source = f"{run['artifact_uri']}/{FOLDER}"
    for file, content in files.items():
        _write_file(mlflow_uri, source, file, content)
    _post(mlflow_uri, "runs/update", run_id=run["run_id"], status="FINISHED", end_time=_now_ms())
    own = {REFUSED, QUARANTINED, "name"}
    tags = [tag for tag in found.get("tags", []) if tag["key"] not in own]
    created = _post(
        mlflow_uri,
        "model-versions/create",
        name=model,
        source=source,
        run_id=run["run_id"],
        tags=[*tags, {"key": "name", "value": name}],
    )
    if fault is not None:
        _change_files(mlflow_uri, source, files, fault(files))
    return str(created["model_version"]["version"])


def _change_files(mlflow_uri: str, source: str, before: Files, after: Files) -> None:
    for file in before.keys() - after.keys():
        url = _artifact_url(mlflow_uri, source, file)
        httpx.delete(url, timeout=60, trust_env=False).raise_for_status()
    for file, content in after.items():
        if before.get(file) != content:
            _write_file(mlflow_uri, source, file, content)


def _read_files(mlflow_uri: str, source: str) -> Files:
    files = {}
    for file in (MANIFEST, CERTIFICATE, *DATA_FILES):
        url = _artifact_url(mlflow_uri, source, file)
        files[file] = httpx.get(url, timeout=60, trust_env=False).raise_for_status().content
    return files


def _write_file(mlflow_uri: str, source: str, file: str, content: bytes) -> None:
    url = _artifact_url(mlflow_uri, source, file)
    httpx.put(url, content=content, timeout=60, trust_env=False).raise_for_status()


def _artifact_url(mlflow_uri: str, source: str, file: str) -> str:
    if not source.startswith(SCHEME):
        raise CopyError(
            f"the files lie in {source}, which MLflow does not serve; start the server with "
            "--artifacts-destination"
        )
    path = source.removeprefix(SCHEME).lstrip("/")
    return f"{mlflow_uri}/api/2.0/mlflow-artifacts/artifacts/{path}/{file}"


def _start_run(mlflow_uri: str, name: str) -> dict[str, str]:
    found = _get(mlflow_uri, "experiments/get-by-name", experiment_name=EXPERIMENT)
    info: dict[str, str] = _post(
        mlflow_uri,
        "runs/create",
        experiment_id=found["experiment"]["experiment_id"],
        run_name=name,
        start_time=_now_ms(),
    )["run"]["info"]
    return info


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _get(mlflow_uri: str, method: str, **params: str) -> dict[str, Any]:
    url = f"{mlflow_uri}/api/2.0/mlflow/{method}"
    reply = httpx.get(url, params=params, timeout=60, trust_env=False).raise_for_status()
    body: dict[str, Any] = reply.json()
    return body


def _post(mlflow_uri: str, method: str, **body: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    url = f"{mlflow_uri}/api/2.0/mlflow/{method}"
    reply = httpx.post(url, json=body, timeout=60, trust_env=False).raise_for_status()
    answer: dict[str, Any] = reply.json()
    return answer
