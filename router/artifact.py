"""Step 9, registry: a trained router on disk, and the checks before it may serve.

A folder of six files: ``manifest.json`` lists size and SHA-256 of the five others. There is no
pickle; nothing in an artifact is executed; no name in it is used as a path.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from router.anchors import Anchors
from router.capability_scorer import CapabilityScorer
from router.certificate import CERTIFICATE
from router.errors import ArtifactError, InvalidInputError
from router.features.project import Projection
from router.features.schema import FeatureSchema
from router.floor import Floor
from router.kinds import Kinds
from router.profile import Profile
from router.query_model import QueryModel
from router.route import Router
from router.utility import Reference

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT_VERSION = 2
MANIFEST = "manifest.json"
QUERIES = "queries.safetensors"
PROJECTION = "projection.safetensors"
KINDS = "kinds.safetensors"
FLOOR = "floor.safetensors"
PROFILES = "profiles.json"
DATA_FILES = (QUERIES, PROJECTION, KINDS, FLOOR, PROFILES)

MAX_MANIFEST_BYTES = 1 << 20
MAX_FILE_BYTES = 1 << 28
VERSION_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
REMEDY = "fetch the artifact again, or train a new one"

_MANIFEST_KEYS = {
    "format_version",
    "version",
    "feature_schema",
    "feature_schema_hash",
    "reference",
    "training_summary",
    "files",
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RouterArtifact:
    """A trained router, complete."""

    version: str
    """Name of the router version: letters, digits, dot, dash and underscore, 128 at most."""

    schema: FeatureSchema
    """The features it reads."""

    projection: Projection
    """From raw features to D components."""

    kinds: Kinds
    """Kinds of query, in the projected space."""

    queries: QueryModel
    """Anchors and difficulty."""

    floor: Floor
    """What a slack below the best prediction costs."""

    profiles: Mapping[str, Profile]
    """Profiles by candidate id, as they stood when trained."""

    reference: Reference
    """Units of cost and latency in the utility."""

    training_summary: Mapping[str, Any] = field(default_factory=dict)
    """What the training job wants known; JSON values only."""

    def __post_init__(self) -> None:
        """Refuse parts that do not fit each other."""
        if not VERSION_PATTERN.fullmatch(self.version):
            raise ArtifactError(
                f"the router version {self.version!r} is no plain name; use letters, digits, . _ -"
            )
        for name, profile in self.profiles.items():
            if profile.candidate_id != name or profile.kinds_hash != self.kinds.hash:
                raise ArtifactError(
                    f"{PROFILES}: the profile of {name!r} is of {profile.candidate_id!r} under "
                    f"kinds {profile.kinds_hash}, not {self.kinds.hash}; estimate it again"
                )

    def scorer(self) -> CapabilityScorer:
        """Return what scores queries."""
        return CapabilityScorer(self.queries, self.projection, self.kinds)

    def router(self) -> Router:
        """Return the router version, ready to decide."""
        return Router(
            version=self.version,
            feature_schema_hash=self.schema.hash,
            scorer=self.scorer(),
            profiles=self.profiles,
            reference=self.reference,
            floor=self.floor,
        )


def save_artifact(folder: Path, artifact: RouterArtifact) -> str:
    """Write an artifact; it appears whole under its name or not at all.

    Returns:
        SHA-256 of the manifest, which pins every file: the artifact's identity.

    Raises:
        ArtifactError: If the folder exists already, or the summary is not JSON.
    """
    if folder.exists():
        raise ArtifactError(f"{folder.name} exists; an artifact is never changed, use a new name")
    contents = _contents(artifact)
    manifest = _manifest(artifact, contents)
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        draft.chmod(0o755)  # mkdtemp makes it private; a serving process may be another user
        for name, content in {**contents, MANIFEST: manifest}.items():
            _write(draft / name, content)
        draft.rename(folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return hashlib.sha256(manifest).hexdigest()


def _contents(artifact: RouterArtifact) -> dict[str, bytes]:
    anchors, queries = artifact.queries.anchors.to_arrays(), artifact.queries.to_arrays()
    profiles = {name: profile.to_json() for name, profile in artifact.profiles.items()}
    return {
        QUERIES: safetensors.numpy.save({**anchors, **queries}),
        PROJECTION: safetensors.numpy.save(dict(artifact.projection.to_arrays())),
        KINDS: safetensors.numpy.save(dict(artifact.kinds.to_arrays())),
        FLOOR: safetensors.numpy.save(dict(artifact.floor.to_arrays())),
        PROFILES: _dump(profiles, PROFILES),
    }


def _manifest(artifact: RouterArtifact, contents: Mapping[str, bytes]) -> bytes:
    record = {
        "format_version": FORMAT_VERSION,
        "version": artifact.version,
        "feature_schema": json.loads(artifact.schema.to_json()),
        "feature_schema_hash": artifact.schema.hash,
        "reference": dataclasses.asdict(artifact.reference),
        "training_summary": dict(artifact.training_summary),
        "files": {
            name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in contents.items()
        },
    }
    return _dump(record, MANIFEST)


def _dump(record: object, name: str) -> bytes:
    try:
        return (json.dumps(record, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()
    except (TypeError, ValueError) as error:
        raise ArtifactError(f"{name} cannot be written as JSON: {error}") from error


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def load_artifact(folder: Path, *, expected_schema_hash: str | None = None) -> RouterArtifact:
    """Read an artifact and check all of it; each file is read once and used as checked.

    Args:
        folder: Where `save_artifact` put it.
        expected_schema_hash: Hash of the features the caller extracts; any when None.

    Raises:
        ArtifactError: If a file is missing, unlisted, altered, no regular file, of the wrong
            shape or not finite, or if the features are others; names the file and the remedy.
    """
    _check_listing(folder)
    manifest = _read_manifest(folder)
    contents = {name: _read_listed(folder, name, manifest["files"]) for name in DATA_FILES}
    schema = _schema(manifest, expected_schema_hash)
    try:
        kinds = Kinds.from_arrays(_arrays(contents[KINDS], KINDS))
        projection = Projection.from_arrays(_arrays(contents[PROJECTION], PROJECTION), schema)
        reference = Reference(**manifest["reference"])
        floor = Floor.from_arrays(_arrays(contents[FLOOR], FLOOR))
        query_arrays = _arrays(contents[QUERIES], QUERIES)
        queries = QueryModel.from_arrays(query_arrays, Anchors.from_arrays(query_arrays))
    except (InvalidInputError, TypeError, ValueError, KeyError) as error:
        raise ArtifactError(f"{folder.name} cannot be used: {error}; {REMEDY}") from error
    artifact = RouterArtifact(
        version=manifest["version"],
        schema=schema,
        projection=projection,
        kinds=kinds,
        queries=queries,
        floor=floor,
        profiles=_profiles(contents[PROFILES]),
        reference=reference,
        training_summary=manifest["training_summary"],
    )
    _check_widths(artifact)
    return artifact


def _refuse(name: str, reason: str) -> NoReturn:
    raise ArtifactError(f"{name} {reason}; {REMEDY}")


def _check_listing(folder: Path) -> None:
    if not folder.is_dir():
        raise ArtifactError(f"{folder.name} is no folder; {REMEDY}")
    found = set(os.listdir(folder)) - {CERTIFICATE}  # noqa: PTH208 - names alone
    expected = {*DATA_FILES, MANIFEST}
    for name in sorted(found ^ expected):
        _refuse(name, "is missing" if name in expected else "does not belong in an artifact")
    for name in sorted(expected):
        if not stat.S_ISREG((folder / name).lstat().st_mode):
            _refuse(name, "is not a regular file")


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if path.stat().st_size > MAX_MANIFEST_BYTES:
        _refuse(MANIFEST, f"is larger than {MAX_MANIFEST_BYTES} bytes")
    manifest = _parse(path.read_bytes(), MANIFEST)
    if manifest.get("format_version") != FORMAT_VERSION:
        _refuse(MANIFEST, f"has format {manifest.get('format_version')!r}, not {FORMAT_VERSION}")
    if set(manifest) != _MANIFEST_KEYS:
        _refuse(
            MANIFEST, f"has other keys than expected: {sorted(set(manifest) ^ _MANIFEST_KEYS)}"
        )
    for name in ("feature_schema", "reference", "training_summary", "files"):
        if not isinstance(manifest[name], dict):
            _refuse(MANIFEST, f"has no table under {name!r}")
    if not isinstance(manifest["version"], str):
        _refuse(MANIFEST, "names no version")
    if set(manifest["files"]) != set(DATA_FILES):
        odd = sorted(set(manifest["files"]) ^ set(DATA_FILES))
        _refuse(MANIFEST, f"lists other files than an artifact has: {odd}")
    return manifest


def _parse(content: bytes, name: str) -> dict[str, Any]:
    def refuse_constant(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not a number")

    try:
        record = json.loads(content.decode(), parse_constant=refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{name} is not JSON: {error}; {REMEDY}") from error
    if not isinstance(record, dict):
        _refuse(name, "holds no table")
    return record


def _read_listed(folder: Path, name: str, files: Mapping[str, Any]) -> bytes:
    listed = files[name]
    if not isinstance(listed, dict) or set(listed) != {"bytes", "sha256"}:
        _refuse(MANIFEST, f"lists {name} without its bytes and sha256")
    size = (folder / name).stat().st_size
    if size != listed["bytes"] or size > MAX_FILE_BYTES:
        _refuse(name, f"has {size} bytes, listed are {listed['bytes']}")
    content = (folder / name).read_bytes()
    if hashlib.sha256(content).hexdigest() != listed["sha256"]:
        _refuse(name, "differs from its listed sha256")
    return content


def _arrays(content: bytes, name: str) -> dict[str, np.ndarray[Any, Any]]:
    try:
        arrays = safetensors.numpy.load(content)
    except SafetensorError as error:
        raise ArtifactError(f"{name} is not a safetensors file: {error}; {REMEDY}") from error
    for key, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            _refuse(name, f"holds a number in {key} that is not finite")
    return dict(arrays)


def _schema(manifest: Mapping[str, Any], expected_hash: str | None) -> FeatureSchema:
    schema = FeatureSchema.from_json(json.dumps(manifest["feature_schema"]))
    if schema.hash != manifest["feature_schema_hash"]:
        _refuse(MANIFEST, "holds a feature schema that its own hash does not fit")
    if expected_hash is not None and schema.hash != expected_hash:
        raise ArtifactError(
            f"{MANIFEST}: trained on features {schema.hash[:12]}, served features are "
            f"{expected_hash[:12]}; retrain on the served features"
        )
    return schema


def _profiles(content: bytes) -> dict[str, Profile]:
    records = _parse(content, PROFILES)
    for name, record in records.items():
        if not isinstance(record, dict):
            _refuse(PROFILES, f"holds no table for {name!r}")
    return {name: Profile.from_json(record) for name, record in records.items()}


def _check_widths(artifact: RouterArtifact) -> None:
    """Push one empty query through, so that a width that does not fit fails here, not live."""
    features_NF = np.zeros((1, artifact.schema.num_features), dtype=np.float32)
    try:
        projected_ND = artifact.projection.transform(features_NF)
    except ValueError as error:
        raise ArtifactError(
            f"{PROJECTION} does not fit the feature schema: {error}; {REMEDY}"
        ) from error
    num_components = projected_ND.shape[1]
    if artifact.kinds.centres_KD.shape[1] != num_components:
        _refuse(KINDS, f"has not the {num_components} components of {PROJECTION}")
    if artifact.queries.anchors.points_AD.shape[1] != num_components:
        _refuse(QUERIES, f"has not the {num_components} components of {PROJECTION}")
    if len(artifact.queries.energy_KR) != artifact.kinds.num_kinds:
        _refuse(QUERIES, f"does not know the {artifact.kinds.num_kinds} kinds of {KINDS}")
    num_functions = len(artifact.queries.difficulty_R)
    for name, profile in artifact.profiles.items():
        if len(profile.token_R) != num_functions or profile.num_kinds != artifact.kinds.num_kinds:
            _refuse(PROFILES, f"describes {name!r} by another basis than {QUERIES}")
