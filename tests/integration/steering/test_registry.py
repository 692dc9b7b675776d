"""A registry steers serving by aliases and tags: a real MLflow on SQLite, without a server."""

import dataclasses
import json

import pytest

from deployments.versions.hot_swap import HotSwap
from deployments.versions.registry import (
    BEST_SINGLE,
    KILL_SWITCH,
    PROFILE_MODEL_PREFIX,
    QUARANTINED,
    REFUSED,
    Pointers,
    Registry,
)
from router.candidate import Candidate, Price
from router.certificate import CERTIFICATE
from router.errors import ArtifactError
from router.records import Pool, Standing

pytestmark = [
    pytest.mark.slow,
]

NEWCOMER = Candidate(id="cedar", price=Price(input_usd_per_mtok=0.1, output_usd_per_mtok=0.1))


@pytest.fixture(scope="module")
def versions(store, made_up):
    """Return two versions, of which the second is challenger."""
    return [
        store.add_router(made_up.fit("router-a", 0)),
        store.add_router(made_up.fit("router-b", 1), "challenger"),
    ]


@pytest.fixture
def client(store, made_up, versions):
    """Return MLflow's client, on a store without marks of other tests."""
    client = store.client
    client.set_registered_model_alias(made_up.model, "champion", "1")
    yield client
    for version in versions:
        for tag in (QUARANTINED, REFUSED):
            if tag in client.get_model_version(made_up.model, version).tags:
                client.delete_model_version_tag(made_up.model, version, tag)
    if KILL_SWITCH in client.get_registered_model(made_up.model).tags:
        client.delete_registered_model_tag(made_up.model, KILL_SWITCH)


@pytest.fixture
def registry(store, made_up, tmp_path):
    """Return the registry as serving sees it."""
    return Registry(store.uri, model=made_up.model, alias="champion", cache=tmp_path / "cache")


@pytest.fixture
def swap(registry, made_up):
    """Return a hot swap that has seen the newcomer in its pool."""
    one = HotSwap(registry, made_up.schema)
    candidates = (*made_up.candidates, NEWCOMER)
    one.note_pool(Pool(standings=tuple(Standing(candidate=c) for c in candidates)))
    return one


def test_one_look_tells_aliases_and_switch(client, registry, store, made_up, tmp_path):
    """And nothing where no model is registered."""
    assert registry.look() == Pointers(champion="1", challenger="2")
    client.set_registered_model_tag(made_up.model, KILL_SWITCH, BEST_SINGLE)
    assert registry.look().kill_switch == BEST_SINGLE
    nobody = Registry(store.uri, model="never-registered", alias="champion", cache=tmp_path)
    assert nobody.look() == Pointers()


def test_a_rollback_serves_the_earlier_version_for_good(client, registry, swap, made_up):
    """The alias moves, the version is quarantined, and no replica takes it up again."""
    client.set_registered_model_alias(made_up.model, "champion", "2")
    swap.swap_if_moved()
    assert swap.router.version == "2"
    assert registry.rollback("2", to="1", reason="earned less " * 100)
    swap.swap_if_moved()
    assert swap.router.version == "1"
    tag = client.get_model_version(made_up.model, "2").tags[QUARANTINED]
    assert len(tag) == 500
    client.set_registered_model_alias(made_up.model, "champion", "2")
    with pytest.raises(ArtifactError, match="quarantined"):
        registry.fetch("2", schema_hash=made_up.schema.hash)
    swap.swap_if_moved()
    assert (swap.router.version, swap.refused_version) == ("1", "2")
    fresh = HotSwap(registry, made_up.schema)
    fresh.swap_if_moved()
    assert fresh.router is None


def test_a_rollback_that_comes_late_moves_nothing(client, registry, made_up):
    """Another version serves by now; the bad one is quarantined all the same."""
    assert not registry.rollback("2", to="1", reason="earned less")
    assert registry.champion_version() == "1"
    assert QUARANTINED in client.get_model_version(made_up.model, "2").tags
    for target in ("1", "2"):
        with pytest.raises(ArtifactError, match="cannot be rolled back to"):
            registry.rollback("1", to=target, reason="again")
    assert QUARANTINED not in client.get_model_version(made_up.model, "1").tags


def test_verification_sees_the_files_and_the_tags(store, registry, made_up):
    """They are there while it looks, the certificate among them, and gone after."""
    seen = []

    def verify(folder, tags):
        seen.append((folder, tags["name"], (folder / CERTIFICATE).read_text()))
        assert (folder / "manifest.json").is_file()

    version = store.add_router(made_up.fit("router-c"), extra={CERTIFICATE: "proven"})
    registry.fetch(version, schema_hash=made_up.schema.hash, verify=verify)
    ((folder, tag, certificate),) = seen
    assert (tag, certificate) == ("router-c", "proven")
    assert not folder.exists()


def test_a_newcomer_joins_without_a_new_router_version(client, registry, store, swap, made_up):
    """New, profiling, refused once if it cannot be read, then on probation."""
    swap.swap_if_moved()
    assert swap.stages()["cedar"] == "new"
    artifact = registry.fetch("1", schema_hash=made_up.schema.hash)
    profile = dataclasses.replace(artifact.profiles["aster"], candidate_id="cedar")
    wide = tuple(1.01 * std for std in profile.token_std_K)
    text = json.dumps(dataclasses.replace(profile, token_std_K=wide).to_json())
    store.add_profile("cedar", text, router_version="1", serves=False)
    swap.swap_if_moved()
    assert swap.stages()["cedar"] == "profiling"
    for broken, reason in (("{", "not JSON"), ("[]", "no table"), ("{}", "cannot be read")):
        version = store.add_profile("cedar", broken, router_version="1")
        for _ in range(2):
            swap.swap_if_moved()
        assert swap.stages()["cedar"] == "profiling"
        tags = client.get_model_version(f"{PROFILE_MODEL_PREFIX}cedar", version).tags
        assert reason in tags[REFUSED]
    store.add_profile("cedar", text, router_version="1")
    swap.swap_if_moved()
    assert swap.router.version == "1"
    assert swap.stages()["cedar"] == "probation"
    assert 0.0 <= swap.router.probation["cedar"].cap < 1.0
    assert swap.router.profiles["cedar"].token_std_K == pytest.approx(wide)
