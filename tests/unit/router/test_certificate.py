"""Certificates: read back equal, bound to one artifact, and invalid is not the same as failed."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.certificate import (
    Certificate,
    Choices,
    Dataset,
    DecisionTime,
    Estimate,
    Evidence,
    Gate,
    Parity,
    Versions,
    load_certificate,
)
from router.errors import ArtifactError, GatesFailedError

SHA = "a" * 64


def certificate(*, passed=True, value=0.1):
    """Return a small certificate."""
    found = Estimate(
        value=value, low=value - 0.1, high=value, effective_rows=9.5, num_rows=10, num_clusters=10
    )
    evidence = Evidence(
        manifest_sha256=SHA,
        created_at="2026-01-01T00:00:00+00:00",
        versions=Versions(challenger="new", best_single="large"),
        dataset=Dataset(num_rows=10, num_evaluated=10, left_out={}, num_labels=10, num_trusted=1),
        values={"challenger": {"dr": found}},
        differences={"best_single": found},
        clipped_difference=found,
        choices=Choices(challenger={"large": 1.0}, challenger_entropy=0.0, disagreement=0.5),
        decision_time=DecisionTime(challenger_p50_s=1e-3, challenger_p95_s=2e-3, num_decisions=5),
        parity=Parity(
            feature_schema_hash="f",
            served_schema_hash="f",
            num_golden=0,
            num_decisions=5,
            same_choice_share=1.0,
        ),
    )
    gates = (
        Gate(name="one", passed=True, reason="fine"),
        Gate(name="two", passed=passed, reason="0.3; at most 0.1"),
    )
    return Certificate(evidence=evidence, gates=gates, gate_config={"limit": 0.1})


@given(st.floats(-1.0, 1.0), st.booleans())
def test_a_round_trip_changes_nothing(value, passed):
    """What is written reads back equal, and writes the same bytes."""
    written = certificate(value=value, passed=passed)
    again = Certificate.from_json(written.to_json())
    assert again == written
    assert again.to_json() == written.to_json()


def test_a_passed_certificate_vouches_for_its_own_artifact_alone():
    """Another manifest is invalid, also where failed gates are allowed."""
    certificate().verify(SHA)
    for allowed in (False, True):
        with pytest.raises(
            ArtifactError, match="of the artifact aaaaaaaaaaaa, not bbbb"
        ) as caught:
            certificate().verify("b" * 64, allow_failed_gates=allowed)
        assert not isinstance(caught.value, GatesFailedError)


def test_failed_gates_can_be_overridden_and_say_why():
    """The error names each gate that failed; a person's word lets the version serve."""
    failed = certificate(passed=False)
    assert not failed.passed
    with pytest.raises(GatesFailedError, match=r"two: 0.3; at most 0.1"):
        failed.verify(SHA)
    failed.verify(SHA, allow_failed_gates=True)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda r: r.update(format_version=9), "format 9"),
        (lambda r: r.update(extra=1), "extra"),
        (lambda r: r.update(gates=[]), "gates"),
        (lambda r: r["evidence"].update(manifest_sha256="A" * 64), "manifest_sha256"),
        (lambda r: r["evidence"].pop("parity"), "evidence.parity"),
        (lambda r: r["evidence"]["clipped_difference"].update(low=5.0), "lacks"),
        (lambda r: r["evidence"]["clipped_difference"].update(low="x"), "low"),
    ],
)
def test_a_malformed_certificate_is_refused(edit, message):
    """Format, keys and bounds are checked; the error names the field."""
    record = json.loads(certificate().to_json())
    edit(record)
    with pytest.raises(ArtifactError, match=message):
        Certificate.from_json(json.dumps(record).encode())


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b'{"evidence": NaN}'])
def test_what_is_no_certificate_is_refused(tmp_path, content):
    """Not JSON, not a table, not a number."""
    (tmp_path / "certificate.json").write_bytes(content)
    with pytest.raises(ArtifactError, match="malformed"):
        load_certificate(tmp_path / "certificate.json")


def test_a_missing_or_huge_file_is_refused(tmp_path):
    """Nothing proven is said so; a file of megabytes is not read."""
    path = tmp_path / "certificate.json"
    with pytest.raises(ArtifactError, match="is missing"):
        load_certificate(path)
    path.write_bytes(b" " * (5 << 20))
    with pytest.raises(ArtifactError, match="larger"):
        load_certificate(path)
    path.write_bytes(certificate().to_json())
    assert load_certificate(path) == certificate()


def test_the_rival_is_the_champion_where_there_is_one():
    """Without one it is the best single candidate, and no ratio of times is known."""
    found = certificate().evidence
    assert (found.rival, found.decision_time.ratio) == ("best_single", None)
    versions = Versions(challenger="new", champion="old", best_single="large")
    time = found.decision_time.model_copy(update={"champion_p50_s": 2e-3})
    found = found.model_copy(update={"versions": versions, "decision_time": time})
    assert (found.rival, found.decision_time.ratio) == ("champion", 0.5)
