"""The watch, end to end: labels in a real log, versions in a real MLflow on SQLite."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from mlflow import MlflowClient
from typer import Typer
from typer.testing import CliRunner

from deployments.rollback import main
from deployments.versions.registry import QUARANTINED
from monitoring.earned import earned, versions_served
from monitoring.outcome import Label, Outcome, Status
from monitoring.outcome_log import SegmentWriter
from router.records import Decision, Policy, QueryShape, Routing

pytestmark = [
    pytest.mark.slow,
]

NAMES = ("aster", "birch")
START = datetime.now(UTC) - timedelta(days=2)


@pytest.fixture(scope="module")
def uri(store, made_up):
    """Return the URI of a store in which the second of two versions serves."""
    store.add_router(made_up.fit("router-a"))
    store.add_router(made_up.fit("router-b"), "champion")
    return store.uri


def outcome(number, version, rng, schema_hash, **changes):
    """Return a routed answer."""
    fields = {"policy": Policy.GREEDY, "answered_by": "aster", **changes}
    decision = Decision(
        decision_id=f"{version}-{number}",
        router_version=version,
        feature_schema_hash=schema_hash,
        candidate_ids=NAMES,
        refusals=(None, None),
        choice="aster",
        policy=fields["policy"],
        features_F=rng.normal(size=8).astype(np.float32),
    )
    return Outcome(
        time=START + timedelta(seconds=number, hours=int(version)),
        decision=decision,
        shape=QueryShape(num_chars=80),
        routing=Routing(),
        query_sha256="0" * 64,
        requested_model="auto",
        pool_age_s=0.1,
        attempts=(),
        answered_by=fields["answered_by"],
        status=Status.OK,
    )


def write_log(root, schema_hash, rates):
    """Write 600 labelled answers of each version, right at its rate; some do not count."""
    rng = np.random.default_rng(1)
    outcomes, labels = (SegmentWriter(root, t, writer="t") for t in ("outcomes", "labels"))
    for version, rate in rates.items():
        for number in range(600):
            odd = {590: {"policy": Policy.EXPLORE}, 591: {"answered_by": "birch"}}
            one = outcome(number, version, rng, schema_hash, **odd.get(number, {}))
            outcomes.append(one)
            labels.append(
                Label(
                    time=one.time + timedelta(minutes=1),
                    decision_id=one.decision.decision_id,
                    score=float(rng.random() < rate),
                    source="grader:made-up",
                )
            )
    for writer in (outcomes, labels):
        writer.flush()
        writer.close()


def run(root, uri, cache, *options):
    """Run the command and return what it printed."""
    app = Typer()
    app.command()(main)
    arguments = ["--outcome-log", str(root), "--registry-uri", uri, "--cache", str(cache)]
    result = CliRunner().invoke(app, [*arguments, *options], catch_exceptions=False)
    return json.loads(result.stdout.strip().splitlines()[-1])


def test_the_log_tells_what_a_version_earned(tmp_path, made_up):
    """Greedy answers of its own choice, in the order of their labels, the latest of them."""
    write_log(tmp_path / "log", made_up.schema.hash, {"1": 0.7, "2": 0.7})
    root = tmp_path / "log"
    assert versions_served(root) == ["1", "2"]
    rows = earned(root, "2", schema_hash=made_up.schema.hash, max_labels=10_000)
    assert len(rows) == 598
    assert rows[0].available_ids == NAMES
    few = earned(root, "2", schema_hash=made_up.schema.hash, max_labels=5)
    assert [row.score for row in few] == [row.score for row in rows[-5:]]
    assert np.array_equal(few[-1].features_F, rows[-1].features_F)
    first = earned(root, "2", schema_hash=made_up.schema.hash, max_labels=5, from_start=True)
    assert [row.score for row in first] == [row.score for row in rows[:5]]
    assert earned(root, "3", schema_hash=made_up.schema.hash, max_labels=5) == []


def test_a_champion_that_earns_as_much_stays(tmp_path, uri, made_up):
    """Whoever acts on it does nothing."""
    write_log(tmp_path / "log", made_up.schema.hash, {"1": 0.7, "2": 0.7})
    report = run(tmp_path / "log", uri, tmp_path / "cache", "--act")
    assert (report["verdict"], report["rolled_back"]) == ("wait", False)
    assert (report["champion"], report["earlier"]) == ("2", "1")
    assert not report["has_drifted"]
    assert report["stability_index"] < 0.1


def test_a_champion_that_earns_less_is_rolled_back(tmp_path, uri, made_up):
    """Told first, then done: the alias moves and the version is quarantined with the figures."""
    client = MlflowClient(tracking_uri=uri)
    write_log(tmp_path / "log", made_up.schema.hash, {"1": 0.7, "2": 0.45})
    told = run(tmp_path / "log", uri, tmp_path / "cache")
    assert (told["verdict"], told["rolled_back"]) == ("regressed", False)
    assert client.get_model_version_by_alias(made_up.model, "champion").version == 2
    done = run(tmp_path / "log", uri, tmp_path / "cache", "--act")
    assert done["rolled_back"]
    assert client.get_model_version_by_alias(made_up.model, "champion").version == 1
    reason = client.get_model_version(made_up.model, "2").tags[QUARANTINED]
    assert reason.startswith("earned 0.4")
