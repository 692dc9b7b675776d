"""Routers, and a registry that is a few dictionaries."""

import dataclasses
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from made_up import CANDIDATES, SCHEMA, fit

from deployments.versions.registry import QUARANTINED, Pointers, ProfilePointer
from router.artifact import save_artifact
from router.errors import ArtifactError


class DictRegistry:
    """Answers as `Registry` does, from what a test puts in."""

    def __init__(self, vouch):
        """Hold nothing."""
        self._vouch, self.failed = vouch, set()
        self.pointers = Pointers()
        self.artifacts, self.tags, self.profiles = {}, {}, {}
        self.refusals, self.is_away = [], False

    def look(self):
        """Return the pointers, or fail as a server that is away."""
        if self.is_away:
            raise ConnectionError("the registry is away")
        return self.pointers

    def point(self, **changes):
        """Move an alias, or set the switch."""
        self.pointers = dataclasses.replace(self.pointers, **changes)

    def fetch(self, version, *, schema_hash, verify=None):
        """Return an artifact after the checks that `Registry` makes of its tags."""
        tags = self.tags.get(version, {})
        if QUARANTINED in tags:
            raise ArtifactError("quarantined")
        artifact = self.artifacts[version]
        if artifact.schema.hash != schema_hash:
            raise ArtifactError("retrain on the served features")
        if verify:
            with tempfile.TemporaryDirectory() as parent:
                folder = Path(parent) / "router"
                save_artifact(folder, artifact)
                self._vouch(folder, passed=version not in self.failed)
                verify(folder, tags)
        return artifact

    def refuse(self, version, reason):
        """Note a refusal."""
        self.refusals.append((version, reason))

    def profile_pointer(self, candidate_id):
        """Return which profile serves."""
        entry = self.profiles.get(candidate_id)
        return None if entry is None else ProfilePointer(version=entry[0])

    def fetch_profile(self, candidate_id, version):
        """Return the profile and its tags."""
        served, profile, tags = self.profiles[candidate_id]
        assert served == version
        if isinstance(tags, Exception):
            raise tags
        return profile, tags

    def refuse_profile(self, candidate_id, version, reason):
        """Note a refusal."""
        self.refusals.append((candidate_id, version, reason))


@pytest.fixture(scope="session")
def made_up():
    """Return the schema, the candidates and two routers."""
    return SimpleNamespace(
        schema=SCHEMA, candidates=CANDIDATES, routers=(fit("router-a", 0), fit("router-b", 1))
    )


@pytest.fixture
def registry(made_up, vouch):
    """Return a registry in which two versions lie and none serves."""
    found = DictRegistry(vouch)
    found.artifacts = {"1": made_up.routers[0], "2": made_up.routers[1]}
    return found
