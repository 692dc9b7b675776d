"""Step 9, seen from serving: what MLflow's registry names, and the few words serving writes there.

Whoever administers the registry steers serving by three things, all read in one call: the aliases
of the versions that serve and that want to, and the tag that switches the router off. A version
that is quarantined is fetched for neither.
"""

from __future__ import annotations

import json
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from router.artifact import RouterArtifact, load_artifact
from router.errors import ArtifactError
from router.profile import Profile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

ARTIFACT_PATH = "router"
"""Where a run keeps its router artifact."""

CHALLENGER_ALIAS = "challenger"
PROFILE_MODEL_PREFIX = "pointsman-profile-"
PROFILE_ALIAS = "serving"
"""The alias of a newcomer's profile that serves."""

PROFILE_FILE = "profile.json"
MAX_PROFILE_BYTES = 1 << 24

REFUSED = "pointsman.refused"
"""Tag of a version: why serving did not take it up."""

QUARANTINED = "pointsman.quarantined"
"""Tag of a version: why it was rolled back. Serving never takes it up while the tag is there."""

ACCEPT_FAILED_GATES = "pointsman.accept_failed_gates"
"""Tag of a version: why a person lets it serve although a gate of its certificate failed."""

KILL_SWITCH = "pointsman.kill_switch"
"""Tag of the registered model; see `BEST_SINGLE`."""

BEST_SINGLE = "best_single"
"""Value of the kill switch that sends every query to the best single available candidate."""

MAX_REASON_CHARS = 500

Verify: TypeAlias = "Callable[[Path, Mapping[str, str]], None]"
"""Checks an artifact's folder and the version's tags; raises ArtifactError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointers:
    """What the registered model says at one instant."""

    champion: str | None = None
    """The version that the serving alias names."""

    challenger: str | None = None
    """The version that is scored in the shadow."""

    kill_switch: str | None = None
    """What the kill switch is set to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfilePointer:
    """A registered profile of one candidate."""

    version: str | None
    """The version that serves; None while none does."""


class Registry:
    """A registered model of MLflow, and the profiles beside it.

    Args:
        uri: MLflow's tracking URI.
        model: The registered model's name.
        alias: The alias that serves.
        cache: Folder in which versions lie while they are fetched and checked.
    """

    def __init__(self, uri: str, *, model: str, alias: str, cache: Path) -> None:
        """Make a client; nothing is fetched yet."""
        from mlflow import MlflowClient  # noqa: PLC0415 - takes a second and 200 MB

        self._client = MlflowClient(tracking_uri=uri)
        self._model = model
        self._alias = alias
        self._cache = cache

    def look(self) -> Pointers:
        """Return what the aliases and the kill switch say; nothing where no model is registered.

        Raises:
            mlflow.exceptions.MlflowException: If MLflow cannot be reached.
        """
        found = self._registered(self._model)
        if found is None:
            return Pointers()
        aliases = {name: str(version) for name, version in found.aliases.items()}
        return Pointers(
            champion=aliases.get(self._alias),
            challenger=aliases.get(CHALLENGER_ALIAS),
            kill_switch=found.tags.get(KILL_SWITCH),
        )

    def champion_version(self) -> str | None:
        """Return the version that the alias names; None where nothing is registered yet."""
        return self.look().champion

    def fetch(
        self, version: str, *, schema_hash: str | None, verify: Verify | None = None
    ) -> RouterArtifact:
        """Download and verify one version.

        Args:
            version: Its number.
            schema_hash: Of the features that are served; any when None.
            verify: What else must hold; called while the files are there.

        Raises:
            ArtifactError: If it is quarantined, incomplete, altered or of a foreign schema.
        """
        found = self._client.get_model_version(self._model, version)
        if QUARANTINED in found.tags:
            raise ArtifactError(
                f"version {version} is quarantined ({found.tags[QUARANTINED]}); train another, or "
                f"delete its tag {QUARANTINED}"
            )
        with self._downloaded(f"version {version} of {self._model}", found.source) as folder:
            artifact = load_artifact(folder, expected_schema_hash=schema_hash)
            if verify is not None:
                verify(folder, found.tags)
            return artifact

    def refuse(self, version: str, reason: str) -> None:
        """Write onto a version why serving refused it, for whoever moved the alias."""
        self._tag(self._model, version, REFUSED, reason)

    def rollback(self, version: str, *, to: str, reason: str) -> bool:
        """Quarantine a version and, if it serves, let an earlier one serve again.

        The tag is written first: should this process die in between, the version is not taken up
        by a replica that starts.

        Returns:
            Whether the alias was moved; False where another version serves by now.

        Raises:
            ArtifactError: If ``to`` is the same version or quarantined itself.
        """
        target = self._client.get_model_version(self._model, to)
        if to == version or QUARANTINED in target.tags:
            raise ArtifactError(f"version {to} cannot be rolled back to; name an earlier one")
        self._tag(self._model, version, QUARANTINED, reason)
        if self.look().champion != version:
            return False
        self._client.set_registered_model_alias(self._model, self._alias, to)
        return True

    def profile_pointer(self, candidate_id: str) -> ProfilePointer | None:
        """Return which profile of a candidate serves; None where none was ever registered."""
        found = self._registered(f"{PROFILE_MODEL_PREFIX}{candidate_id}")
        if found is None:
            return None
        version = found.aliases.get(PROFILE_ALIAS)
        return ProfilePointer(version=None if version is None else str(version))

    def fetch_profile(self, candidate_id: str, version: str) -> tuple[Profile, Mapping[str, str]]:
        """Download one profile; return it with the version's tags.

        Raises:
            ArtifactError: If it is missing, too large, or cannot be read.
        """
        name = f"{PROFILE_MODEL_PREFIX}{candidate_id}"
        found = self._client.get_model_version(name, version)
        with self._downloaded(f"version {version} of {name}", found.source) as folder:
            path = folder / PROFILE_FILE
            if not path.is_file() or path.stat().st_size > MAX_PROFILE_BYTES:
                raise ArtifactError(
                    f"version {version} of {name} holds no {PROFILE_FILE} of at most "
                    f"{MAX_PROFILE_BYTES} bytes; register the profile again"
                )
            return _profile(path.read_bytes(), name), dict(found.tags)

    def refuse_profile(self, candidate_id: str, version: str, reason: str) -> None:
        """Write onto a profile why serving refused it."""
        self._tag(f"{PROFILE_MODEL_PREFIX}{candidate_id}", version, REFUSED, reason)

    def _registered(self, name: str) -> Any | None:  # noqa: ANN401 - MLflow is untyped here
        from mlflow.exceptions import MlflowException  # noqa: PLC0415 - see above

        try:
            return self._client.get_registered_model(name)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise

    def _tag(self, name: str, version: str, key: str, reason: str) -> None:
        self._client.set_model_version_tag(name, version, key, reason[:MAX_REASON_CHARS])

    @contextmanager
    def _downloaded(self, what: str, source: str | None) -> Iterator[Path]:
        from mlflow.artifacts import download_artifacts  # noqa: PLC0415 - see above

        if not source:
            raise ArtifactError(f"{what} names no source; register it again")
        self._cache.mkdir(parents=True, exist_ok=True)
        # A folder of its own: the replicas of one machine fetch a new version at the same time.
        with tempfile.TemporaryDirectory(dir=self._cache) as folder:
            inner = Path(folder) / "version"  # what lies beside the download is removed with it
            inner.mkdir()
            yield Path(
                download_artifacts(
                    artifact_uri=source,
                    dst_path=str(inner),
                    tracking_uri=self._client.tracking_uri,
                )
            )


def _profile(content: bytes, name: str) -> Profile:
    try:
        record = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"the {PROFILE_FILE} of {name} is not JSON: {error}") from error
    if not isinstance(record, dict):
        raise ArtifactError(f"the {PROFILE_FILE} of {name} holds no table")
    return Profile.from_json(record)
