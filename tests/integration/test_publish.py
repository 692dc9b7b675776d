"""What learning publishes, serving fetches: a real MLflow on SQLite, without a server."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from made_up import CANDIDATES, SCHEMA, fit
from mlflow import MlflowClient

from deployments.versions.registry import Registry
from router.artifact import QUERIES, save_artifact
from router.errors import ArtifactError
from training.publishing.publish import (
    PROFILE_MODEL_PREFIX,
    ROUTER_MODEL,
    SERVING_ALIAS,
    Publisher,
    profile_metrics,
)
from training.retrain import Promotion, conclude

pytestmark = [
    pytest.mark.slow,
]


@pytest.fixture(scope="module")
def routers():
    """Return two routers that were trained on different rows."""
    return fit("router-a", 0), fit("router-b", 1)


@pytest.fixture(scope="module")
def uri(mlflow_folder):
    """Return the tracking URI of a new store."""
    return f"sqlite:///{mlflow_folder / 'mlflow.db'}"


@pytest.fixture(scope="module")
def publisher(uri):
    """Return the registry as learning sees it."""
    return Publisher(uri)


@pytest.fixture(scope="module")
def published(publisher, routers, tmp_path_factory, vouch):
    """Return the numbers of two versions, published in turn; none is promoted."""
    assert publisher.champion() is None
    versions = []
    for router in routers:
        folder = tmp_path_factory.mktemp("trained") / router.version
        save_artifact(folder, router)
        versions.append(publisher.publish_router(folder, vouch(folder), params={"seed": 0}))
    return versions


@pytest.fixture
def registry(uri, tmp_path):
    """Return the registry as serving sees it."""
    return Registry(uri, model=ROUTER_MODEL, alias="champion", cache=tmp_path / "cache")


def scores(artifact):
    """Score one query with a router."""
    return artifact.scorer().score(
        np.linspace(-1, 1, SCHEMA.num_features, dtype=np.float32),
        num_chars=80,
        num_images=0,
        candidates=CANDIDATES,
        profiles=artifact.profiles,
    )


def stored_folder(uri, version):
    """Return where MLflow keeps a version's files."""
    source = MlflowClient(tracking_uri=uri).get_model_version(ROUTER_MODEL, version).source
    return Path(source.removeprefix("file://"))


def test_without_a_registered_model_there_is_no_champion(uri, tmp_path):
    """Serving starts before anything was trained."""
    nobody = Registry(uri, model="never-registered", alias="champion", cache=tmp_path)
    assert nobody.champion_version() is None


def test_a_published_version_is_challenger_and_not_champion(uri, publisher, published, registry):
    """The last one published; publishing alone changes nothing that serves."""
    client = MlflowClient(tracking_uri=uri)
    assert published == ["1", "2"]
    assert client.get_model_version_by_alias(ROUTER_MODEL, "challenger").version == 2
    assert publisher.champion() is None
    assert registry.champion_version() is None
    found = client.get_model_version(ROUTER_MODEL, "1")
    assert found.tags == {
        "feature_schema_hash": SCHEMA.hash,
        "name": "router-a",
        "gates": "passed",
    }
    run = client.get_run(found.run_id)
    assert run.data.metrics["proof.over_best_single.low"] == 0.0
    assert run.data.params == {"seed": "0"}


def test_a_fetched_version_scores_to_the_bit(published, registry, routers):
    """Each number brings its own router, verified, as often as it is fetched."""
    for version, router in [*zip(published, routers, strict=True), (published[0], routers[0])]:
        fetched = registry.fetch(version, schema_hash=SCHEMA.hash)
        one, other = scores(router), scores(fetched)
        assert all(np.array_equal(getattr(one, n), getattr(other, n)) for n in one.__slots__)
        assert fetched.version == router.version
        assert fetched.profiles == router.profiles


def test_a_promotion_moves_the_champion_and_back(uri, publisher, published, registry):
    """Serving sees the alias where a person or the job put it."""
    for version in (*published, published[0]):
        publisher.promote(version)
        assert registry.champion_version() == publisher.champion() == version
    client = MlflowClient(tracking_uri=uri)
    assert client.get_model_version_by_alias(ROUTER_MODEL, "challenger").version == 2
    client.delete_registered_model_alias(ROUTER_MODEL, "champion")


def test_a_version_of_other_features_is_not_served(published, registry):
    """Serving names the hash that it extracts."""
    with pytest.raises(ArtifactError, match="retrain on the served features"):
        registry.fetch(published[0], schema_hash="f" * 64)


def test_a_version_altered_in_the_store_is_not_served(uri, published, registry, routers):
    """One byte of the weights is enough, also for a version that was fetched before."""
    registry.fetch(published[1], schema_hash=SCHEMA.hash)
    path = stored_folder(uri, published[1]) / QUERIES
    original = path.read_bytes()
    path.write_bytes(original[:-3] + bytes([original[-3] ^ 1]) + original[-2:])
    with pytest.raises(ArtifactError, match=f"{QUERIES} differs"):
        registry.fetch(published[1], schema_hash=SCHEMA.hash)
    path.write_bytes(original)
    again = registry.fetch(published[1], schema_hash=SCHEMA.hash)
    assert again.version == routers[1].version


def test_replicas_that_fetch_at_once_do_not_disturb_each_other(published, registry, routers):
    """Router replicas of one machine share the cache and see the alias move together."""
    with ThreadPoolExecutor(4) as pool:
        fetching = [
            pool.submit(registry.fetch, published[0], schema_hash=SCHEMA.hash) for _ in range(16)
        ]
        assert {done.result().version for done in fetching} == {routers[0].version}


def test_a_refusal_is_written_onto_the_version(uri, published, registry):
    """Whoever moved the alias can read why nothing happened; long reasons are cut."""
    registry.refuse(published[0], "altered " * 100)
    tags = MlflowClient(tracking_uri=uri).get_model_version(ROUTER_MODEL, published[0]).tags
    assert tags["pointsman.refused"].startswith("altered altered")
    assert len(tags["pointsman.refused"]) == 500


def test_profiles_are_registered_with_their_figures(uri, publisher, published, routers):
    """One model per candidate, a version per training, its metrics readable in the UI."""
    for router, version in zip(routers, published, strict=True):
        publisher.publish_profiles(router.profiles, router_version=version)
    client = MlflowClient(tracking_uri=uri)
    for candidate in CANDIDATES:
        name = f"{PROFILE_MODEL_PREFIX}{candidate.id}"
        versions = client.search_model_versions(f"name = '{name}'")
        assert {found.tags["router_version"] for found in versions} == {"1", "2"}
        latest = max(versions, key=lambda found: int(found.version))
        profile = routers[1].profiles[candidate.id]
        assert client.get_run(latest.run_id).data.metrics == profile_metrics(profile)
        assert latest.tags["kinds_hash"] == profile.kinds_hash
        # The router version may never serve, so its profiles do not take the alias.
        assert client.get_registered_model(name).aliases == {}


def test_a_run_that_was_cut_off_is_told_from_one_that_ended(uri, publisher, published, routers):
    """What it registered can be read back; profiles that are there are not registered again."""
    version, name = published[0], routers[0].version
    assert not publisher.has_concluded("nobody")
    assert not publisher.has_concluded(name)
    artifact, certificate = publisher.published(version)
    assert artifact.version == name
    for _ in range(2):
        publisher.publish_profiles(artifact.profiles, router_version=version)
    found = MlflowClient(tracking_uri=uri).search_model_versions(
        f"name = '{PROFILE_MODEL_PREFIX}aster' and tags.router_version = '{version}'"
    )
    assert len(found) == 1
    conclude(publisher, version, certificate, Promotion.NEVER)
    assert publisher.has_concluded(name)
    assert publisher.version_named(name) == version


def test_a_single_profile_is_registered_to_serve(uri, publisher, routers):
    """The alias moves to the last one; versions of a training do not take it along."""
    first, second = (
        publisher.publish_profile(router.profiles["aster"], router_version="1")
        for router in routers
    )
    assert int(second) == int(first) + 1
    publisher.publish_profiles(routers[0].profiles, router_version="2")
    client = MlflowClient(tracking_uri=uri)
    serving = client.get_model_version_by_alias(f"{PROFILE_MODEL_PREFIX}aster", SERVING_ALIAS)
    assert str(serving.version) == second


def test_learning_reads_the_champion_back(uri, publisher, published, routers):
    """Verified, and refused where there is none."""
    publisher.promote(published[1])
    version, artifact = publisher.champion_artifact()
    assert (version, artifact.version) == (published[1], routers[1].version)
    with pytest.raises(ArtifactError, match="nobody has no champion"):
        Publisher(uri, model="nobody").champion_artifact()


def test_metrics_of_a_profile_leave_out_what_nobody_observed(routers):
    """A kind without an outcome has a count and no quality."""
    profile = routers[0].profiles["aster"]
    metrics = profile_metrics(profile)
    assert metrics["num_observed"] == profile.num_observed
    assert metrics["kind_00.num_observed"] == profile.num_observed_K[0]
    for kind, count in enumerate(profile.num_observed_K):
        assert (f"kind_{kind:02d}.quality" in metrics) == (count > 0)
    assert "candidate_id" not in metrics
