"""Gates: each fails on its own figure, and together they tell challengers apart."""

import json

import pytest
import yaml

from router.certificate import (
    Calibration,
    Choices,
    Dataset,
    DecisionTime,
    Estimate,
    Evidence,
    Parity,
    SliceDifference,
    Versions,
)
from router.errors import InvalidInputError
from training.proof.coverage import (
    BETTER_BLUR,
    WORSE_BLUR,
    gate_study,
    poison_studies,
)
from training.proof.gates import GateConfig, certified, judge, load_gates
from training.proof.simulation import LogShape, Poison


def estimate(value, half=0.02, rows=500.0):
    """Return an estimate with a symmetric interval."""
    return Estimate(
        value=value,
        low=value - half,
        high=value + half,
        effective_rows=rows,
        num_rows=1000,
        num_clusters=900,
    )


def evidence(**changes):
    """Return evidence that passes every gate."""
    fields = {
        "manifest_sha256": "a" * 64,
        "created_at": "2026-01-01T00:00:00+00:00",
        "versions": Versions(challenger="new", champion="old", best_single="large"),
        "dataset": Dataset(
            num_rows=1000, num_evaluated=1000, left_out={}, num_labels=1000, num_trusted=300
        ),
        "values": {"challenger": {"dr": estimate(0.8)}},
        "differences": {
            "champion": estimate(0.05),
            "best_single": estimate(0.1),
            "neighbours": estimate(0.02),
        },
        "clipped_difference": estimate(0.05),
        "trusted_difference": estimate(0.04),
        "source_bias": {"small": estimate(0.01), "large": estimate(0.0), "wide": estimate(0.02)},
        "slices": (SliceDifference(name="with image", difference=estimate(-0.01)),),
        "calibration": {"small": Calibration(error=0.05, by_chance=0.03, num_labels=200)},
        "choices": Choices(
            challenger={"small": 0.5, "large": 0.5},
            champion={"small": 0.6, "large": 0.4},
            challenger_entropy=0.9,
            champion_entropy=0.95,
            disagreement=0.3,
        ),
        "decision_time": DecisionTime(
            challenger_p50_s=0.001,
            challenger_p95_s=0.002,
            champion_p50_s=0.001,
            champion_p95_s=0.002,
            num_decisions=100,
        ),
        "parity": Parity(
            feature_schema_hash="f" * 64,
            served_schema_hash="f" * 64,
            num_golden=4,
            golden_difference=0.001,
            num_decisions=100,
            same_choice_share=1.0,
        ),
    }
    return Evidence(**{**fields, **changes})


def update(name, **changes):
    """Return one part of the passing evidence with some fields changed."""
    return {name: getattr(evidence(), name).model_copy(update=changes)}


def failed(found, config=None):
    """Return the names of the gates that failed."""
    verdict = judge(found, config or GateConfig())
    assert verdict.passed == (not verdict.reasons)
    return [gate.name for gate in verdict.gates if not gate.passed]


def test_good_evidence_passes():
    """Nothing is wrong with the evidence that the other tests change."""
    assert failed(evidence()) == []


@pytest.mark.parametrize(
    ("changes", "gate"),
    [
        (
            {"differences": {**evidence().differences, "champion": estimate(0.01)}},
            "gain_over_champion",
        ),
        (
            {"differences": {**evidence().differences, "best_single": estimate(0.01)}},
            "gain_over_best_single",
        ),
        (
            {"differences": {**evidence().differences, "neighbours": estimate(-0.04)}},
            "gain_over_neighbours",
        ),
        ({"values": {"challenger": {"dr": estimate(0.8, rows=20.0)}}}, "effective_rows"),
        ({"trusted_difference": estimate(-0.02)}, "trusted_labels"),
        ({"trusted_difference": estimate(0.2, rows=10.0)}, "trusted_labels"),
        ({"trusted_difference": None}, "trusted_labels"),
        (
            {"source_bias": {**evidence().source_bias, "large": estimate(0.2)}},
            "source_bias[large]",
        ),
        (
            {"slices": (SliceDifference(name="x", difference=estimate(-0.1)),)},
            "slice[x]",
        ),
        (
            {"calibration": {"small": Calibration(error=0.3, by_chance=0.03, num_labels=200)}},
            "calibration[small]",
        ),
        (update("choices", challenger_entropy=0.1), "entropy"),
        (update("decision_time", challenger_p50_s=0.01), "decision_time_ratio"),
        (update("decision_time", challenger_p95_s=0.2), "decision_time_p95"),
        (update("parity", served_schema_hash="e" * 64), "feature_schema"),
        (update("parity", golden_difference=0.5), "golden_features"),
        (update("parity", same_choice_share=0.9), "same_choice"),
    ],
)
def test_each_figure_fails_its_own_gate(changes, gate):
    """One figure out of bounds fails one gate, with a reason."""
    assert failed(evidence(**changes)) == [gate]


def test_without_a_champion_only_absolute_gates_are_judged():
    """A first version needs no one to beat; it may only not be clearly worse than one model."""
    first = {
        "versions": Versions(challenger="new", best_single="large"),
        **update("choices", champion=None, champion_entropy=None),
        **update("decision_time", champion_p50_s=None, champion_p95_s=None),
    }
    level = evidence(**first, differences={"best_single": estimate(-0.01)})
    assert failed(level) == []
    assert {g.name for g in judge(level, GateConfig()).gates}.isdisjoint(
        {"gain_over_champion", "entropy", "decision_time_ratio"}
    )
    worse = evidence(**first, differences={"best_single": estimate(-0.2)})
    assert failed(worse) == ["gain_over_best_single"]


def test_no_worse_may_be_asked_for_instead_of_better():
    """A tolerance below 0 lets a version pass that is as good."""
    level = evidence(differences={**evidence().differences, "champion": estimate(0.01)})
    assert failed(level, GateConfig(min_gain_over_champion=-0.02)) == []


def test_trusted_labels_matter_only_where_choices_differ_enough():
    """Policies that choose otherwise on 1 % of the rows differ by at most 0.01."""
    alike = evidence(**update("choices", disagreement=0.01), trusted_difference=None)
    assert failed(alike) == []
    unasked = GateConfig(needs_trusted_labels=False)
    assert failed(evidence(trusted_difference=None), unasked) == []
    assert failed(evidence(trusted_difference=estimate(-0.2)), unasked) == ["trusted_labels"]


def test_labels_that_flatter_all_alike_decide_nothing():
    """Generous users are no reason to refuse; a few labels of one candidate neither."""
    generous = {name: estimate(0.3) for name in ("small", "large", "wide")}
    assert failed(evidence(source_bias=generous)) == []
    assert failed(evidence(source_bias={})) == []
    few = {"small": Calibration(error=0.5, by_chance=0.03, num_labels=10)}
    assert failed(evidence(calibration=few)) == []


def test_a_certificate_can_be_judged_again():
    """The certificate holds its limits, which judge its evidence the same way."""
    certificate = certified(evidence(), GateConfig(max_slice_loss=0.1))
    config = GateConfig.model_validate(certificate.gate_config)
    assert judge(certificate.evidence, config).gates == certificate.gates


def test_limits_are_read_from_yaml_and_json(tmp_path):
    """A file names what differs from the defaults; an empty one differs in nothing."""
    for text in (yaml.safe_dump({"max_slice_loss": 0.2}), json.dumps({"max_slice_loss": 0.2})):
        (tmp_path / "gates").write_text(text)
        assert load_gates(tmp_path / "gates") == GateConfig(max_slice_loss=0.2)
    (tmp_path / "gates").write_text("")
    assert load_gates(tmp_path / "gates") == GateConfig()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_slice_loss: 2", "max_slice_loss"),
        ("max_slice_los: 0.1", "max_slice_los "),
        ("min_effective_rows: .nan", "min_effective_rows"),
        ("a: [", "no YAML"),
        ("- 1", "gates"),
    ],
)
def test_bad_limits_are_named(tmp_path, text, message):
    """Unknown limits, limits out of bounds and what is no table are refused."""
    (tmp_path / "gates").write_text(text)
    with pytest.raises(InvalidInputError, match=message):
        load_gates(tmp_path / "gates")


def test_gates_tell_better_from_worse():
    """Of 10 logs each, a better challenger passes on most, a worse one on none."""
    assert gate_study(BETTER_BLUR, 10).num_passed >= 8
    assert gate_study(WORSE_BLUR, 10).num_passed == 0


@pytest.mark.slow
def test_20_worse_challengers_are_refused_and_18_better_ones_pass():
    """The promise at the documented size: 4,000 logged rows and 600 calibration questions."""
    assert gate_study(WORSE_BLUR, 20).num_passed == 0
    assert gate_study(BETTER_BLUR, 20).num_passed >= 18


@pytest.mark.slow
def test_poison_lets_no_harmful_challenger_pass():
    """With a twentieth of the labels flipped, at random or on purpose, it is refused."""
    assert [study.num_passed for study in poison_studies(20).values()] == [0, 0]


def test_targeted_poison_is_caught_by_trusted_labels():
    """Poison may hide the loss from the other gates, never from this one."""
    study = gate_study(WORSE_BLUR, 5, shape=LogShape(poison=Poison.TARGETED))
    assert study.num_passed == 0
    assert study.failed["trusted_labels"] == 5
