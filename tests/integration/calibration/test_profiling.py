"""One command profiles a candidate that the serving router never saw."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from made_up import fit
from mlflow import MlflowClient
from typer import Typer
from typer.testing import CliRunner

from router.artifact import save_artifact
from router.errors import ArtifactError, InvalidInputError
from router.profile import Profile
from training import profiling
from training.publishing.publish import Publisher, profile_metrics

KINDS = ("sums", "words", "names")


@pytest.fixture(scope="module")
def uri(mlflow_folder):
    """Return the tracking URI of a new store."""
    return f"sqlite:///{mlflow_folder / 'mlflow.db'}"


@pytest.fixture(scope="module")
def champion(uri, tmp_path_factory, feature_schema, candidates, features, vouch):
    """Promote a router of two candidates; return its artifact."""
    artifact = fit(
        "router-a",
        schema=feature_schema,
        candidates=candidates[:2],
        features_NF=np.array([features(f"question {n}") for n in range(60)]),
        num_kinds=3,
    )
    publisher = Publisher(uri)
    folder = tmp_path_factory.mktemp("router") / "router-a"
    save_artifact(folder, artifact)
    publisher.promote(publisher.publish_router(folder, vouch(folder), params={}))
    return artifact


@pytest.fixture
def profile(system, uri, champion, tmp_path):
    """Return the command, on a set of 60 questions of which the half is answered rightly."""
    assert "cedar" not in champion.profiles
    rows = [
        {
            "question_id": f"q{n}",
            "text": f"{KINDS[n % 3]} {n}: say {n}",
            "answer": str(n if n % 2 else -1),
            "grader": "numeric",
            "kind": KINDS[n % 3],
        }
        for n in range(60)
    ]
    (tmp_path / "set.jsonl").write_text("\n".join(map(json.dumps, rows)))
    app = Typer()
    app.command()(profiling.main)

    def run(*options, candidate="cedar"):
        result = CliRunner().invoke(
            app,
            [
                f"--candidate={candidate}", f"--set={tmp_path / 'set.jsonl'}",
                f"--outcome-log={system.root}", f"--registry-uri={uri}", f"--url={system.url}",
                f"--state={tmp_path / 'state.sqlite'}", *options,
            ],
        )  # fmt: skip
        if result.exception is not None:
            raise result.exception
        return result.output

    return run


def serving_version(uri):
    """Return the profile version that the alias names."""
    client = MlflowClient(tracking_uri=uri)
    return client.get_model_version_by_alias("pointsman-profile-cedar", "serving")


def stored_profile(version):
    """Return the profile of a version, and the names of its files."""
    folder = Path(version.source.removeprefix("file://"))
    record = json.loads((folder / "profile.json").read_text())
    return Profile.from_json(record), {path.name for path in folder.iterdir()}


def test_a_candidate_is_asked_profiled_and_published(system, uri, champion, profile):
    """24 questions over three kinds; then 30, of which six are new and make the next version."""
    output = profile("--n=24")
    assert "24 labels, 0 done before, 0 failed, 0 left, 0.1200 USD" in output
    assert {name for name, _ in system.asked} == {"cedar"}
    assert Counter(text.split()[0] for _, text in system.asked) == dict.fromkeys(KINDS, 8)
    first = serving_version(uri)
    found, files = stored_profile(first)
    assert files == {"profile.json", "kinds.png"}
    assert found.num_observed == pytest.approx(24)
    assert found.kinds_hash == champion.kinds.hash
    assert found.input_tokens_base + found.output_tokens_K[0] > 0
    rights = sum(int(text.split()[-1]) % 2 for _, text in system.asked)
    assert found.quality == pytest.approx(rights / 24)
    assert f"quality {found.quality:.3f}" in output
    metrics = MlflowClient(tracking_uri=uri).get_run(first.run_id).data.metrics
    assert metrics == pytest.approx(profile_metrics(found))
    assert metrics["kind_00.num_observed"] > 0
    assert first.tags["router_version"] == "1"

    assert "6 labels, 24 done before" in profile("--n=30")
    assert len(system.asked) == 30
    second = serving_version(uri)
    assert int(second.version) == int(first.version) + 1
    assert stored_profile(second)[0].num_observed == pytest.approx(30)


def test_a_cap_ends_the_asking_and_not_the_command(system, uri, profile):
    """An answer costs 0.005 USD: what 0.05 buys makes a profile, and nothing is published."""
    before = {v.version for v in MlflowClient(tracking_uri=uri).search_model_versions()}
    output = profile("--n=40", "--spend-cap-usd=0.0501", "--no-publish")
    assert "10 labels, 0 done before, 0 failed, 30 left, 0.0500 USD" in output
    assert "from 10 outcomes" in output
    assert len(system.asked) == 10
    assert {v.version for v in MlflowClient(tracking_uri=uri).search_model_versions()} == before


def test_what_is_wrong_is_told_before_money_is_spent(system, profile):
    """A candidate that is not served, a registry without a champion, an order that is none."""
    with pytest.raises(InvalidInputError, match="use one of aster, birch, cedar"):
        profile(candidate="dahlia")
    with pytest.raises(ArtifactError, match="nobody has no champion"):
        profile("--registry-model=nobody")
    with pytest.raises(InvalidInputError, match="once"):
        profile("--label-precedence=gold,gold")
    assert system.asked == []
