"""For all tests: Ray warns of its own code as it is imported; and a certificate for any router."""

from __future__ import annotations

import hashlib
import warnings

import pytest
from hypothesis import settings

from router.artifact import MANIFEST
from router.certificate import (
    CERTIFICATE,
    Certificate,
    Choices,
    Dataset,
    DecisionTime,
    Estimate,
    Evidence,
    Gate,
    Parity,
    Versions,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import ray.serve
    import ray.serve.schema

del ray

# On a busy machine a deadline fails what is correct; speed is measured elsewhere, as ratios.
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")


def write_certificate(folder, *, passed=True):
    """Lay a small certificate beside a saved artifact's files, and return it."""
    gain = Estimate(value=0.1, low=0.0, high=0.2, effective_rows=9, num_rows=10, num_clusters=10)
    evidence = Evidence(
        manifest_sha256=hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest(),
        created_at="2026-03-01T12:00:00+00:00",
        versions=Versions(challenger="new", best_single="aster"),
        dataset=Dataset(num_rows=10, num_evaluated=10, left_out={}, num_labels=10, num_trusted=1),
        values={"challenger": {"dr": gain}},
        differences={"best_single": gain},
        clipped_difference=gain,
        choices=Choices(challenger={"aster": 1.0}, challenger_entropy=0.0, disagreement=0.5),
        decision_time=DecisionTime(challenger_p50_s=1e-3, challenger_p95_s=2e-3, num_decisions=5),
        parity=Parity(
            feature_schema_hash="f",
            served_schema_hash="f",
            num_golden=0,
            num_decisions=5,
            same_choice_share=1.0,
        ),
    )
    gates = (Gate(name="gain", passed=passed, reason="0.1; above 0"),)
    certificate = Certificate(evidence=evidence, gates=gates, gate_config={})
    (folder / CERTIFICATE).write_bytes(certificate.to_json())
    return certificate


@pytest.fixture(scope="session")
def vouch():
    """Return what writes a certificate for a saved artifact."""
    return write_certificate
