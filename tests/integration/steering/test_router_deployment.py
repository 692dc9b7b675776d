"""The router replica in one process: real encoders, a real MLflow on SQLite, no Ray."""

import contextlib
import dataclasses
import json
from pathlib import Path

import pytest

from deployments.question import Question
from deployments.router_deployment import NoRouterError, RouterDeployment
from deployments.settings import RouterSettings
from deployments.versions.registry import BEST_SINGLE, KILL_SWITCH
from router.features.extract import FeatureExtractor
from router.records import Policy, Pool, QueryShape, Routing, Standing

ENCODERS = Path(__file__).parents[3] / ".cache" / "encoders"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not ENCODERS.is_dir(), reason="make setup builds the encoders"),
]

SHAPE = QueryShape(num_chars=20)


@pytest.fixture(scope="module")
def pool(made_up):
    """Return a pool of three, of whom the routers know two."""
    newcomer = dataclasses.replace(made_up.candidates[0], id="cedar")
    return Pool(standings=tuple(Standing(candidate=c) for c in (*made_up.candidates, newcomer)))


@pytest.fixture
async def deployment(tmp_path, store):
    """Return a replica that looks at the registry only when a test tells it to."""
    one = RouterDeployment(
        RouterSettings(
            registry_uri=store.uri,
            registry_poll_s=3600.0,
            outcome_log=str(tmp_path / "log"),
            encoders=ENCODERS,
            router_versions=tmp_path / "routers",
            explore_state=tmp_path / "exploration",
            explore_daily_quality=0.5,
            shadow_load=1.0,
        )
    )
    yield one
    one._watch.cancel()


@pytest.fixture
def decide(deployment, pool):
    """Return what decides on a question."""

    async def decide(number=0, **wishes):
        return await deployment.decide(
            Question(text="What is it?", pictures=()),
            SHAPE,
            pool=pool,
            routing=Routing(**wishes),
            decision_id=f"d{number}",
            seed=number,
        )

    return decide


async def test_before_the_first_version_a_replica_explores_within_its_budget(deployment, decide):
    """Draws are logged with their chances; when the day's budget is spent the default answers."""
    decisions = []
    with contextlib.suppress(NoRouterError):
        while len(decisions) < 20:
            decisions += [await decide(len(decisions), explore_share=0.3)]
    status = await deployment.status()
    assert 1 < len(decisions) < 20
    assert {d.router_version for d in decisions} == {""}
    assert all(d.propensities == pytest.approx((0.1, 0.8, 0.1)) for d in decisions)
    assert all(d.propensity == d.propensities[d.candidate_ids.index(d.choice)] for d in decisions)
    assert all(len(d.features_F) > 1000 for d in decisions)
    spent = sum(d.regret_quality for d in decisions)
    assert spent <= 0.5
    assert status["exploration"]["spent_quality"] == pytest.approx(spent)


async def test_a_replica_follows_the_registry(deployment, decide, store, made_up):
    """No version, one, exploring in its budget, a newcomer, a challenger, the kill switch."""
    with pytest.raises(NoRouterError):
        await decide()
    schema = FeatureExtractor.load(ENCODERS).schema
    artifact = made_up.fit("router-a", 0, schema=schema)
    store.add_router(artifact, "champion")
    deployment._swap.swap_if_moved()
    decision = await decide()
    assert (decision.router_version, decision.shadow_choice) == ("1", "")

    explored = [await decide(n, explore_share=1.0) for n in range(200)]
    spent = sum(d.regret_quality for d in explored)
    status = await deployment.status()
    assert 0.0 < spent <= 0.5
    assert status["exploration"]["spent_quality"] == pytest.approx(spent)
    assert status["stages"] == {"aster": "full", "birch": "full", "cedar": "new"}

    profile = dataclasses.replace(artifact.profiles["aster"], candidate_id="cedar")
    wide = tuple(1.001 * std for std in profile.token_std_K)
    text = json.dumps(dataclasses.replace(profile, token_std_K=wide).to_json())
    store.add_profile("cedar", text, router_version="1")
    store.add_router(made_up.fit("router-b", 1, schema=schema), "challenger")
    store.client.set_registered_model_tag(made_up.model, KILL_SWITCH, BEST_SINGLE)
    deployment._swap.swap_if_moved()
    killed = await decide(7)
    status = await deployment.status()
    assert (killed.policy, killed.shadow_version) == (Policy.BEST_SINGLE, "2")
    assert killed.shadow_choice in killed.candidate_ids
    assert status["kill_switch"]
    assert status["stages"]["cedar"] == "probation"
    assert 0.0 <= status["caps"]["cedar"] < 1.0
    assert status["shadow"]["num_scored"] == 1
    assert await deployment.label_requests() in ([], ["d7"])
