"""From artifacts and held-out rows to a certificate and its page."""

import dataclasses
from datetime import UTC, datetime, timedelta
from itertools import count

import numpy as np
import pytest

from monitoring.outcome import Attempt, Label, Outcome, Status, Usage
from monitoring.outcome_log import SegmentWriter
from router.artifact import save_artifact
from router.candidate import Candidate, Price
from router.certificate import Certificate, SliceDifference, load_certificate
from router.errors import GatesFailedError, InvalidInputError
from router.features.schema import FeatureBlock, FeatureSchema
from router.records import Decision, Policy, QueryShape, Routing
from training.data.held_out import LabelledRows, labelled_rows_from_log
from training.fitting.fit import fit_router
from training.fitting.fit_config import FitConfig
from training.proof.certify import Trial, certify
from training.proof.contest import Contest, calibration, share_entropy
from training.proof.gates import GateConfig
from training.proof.off_policy import LoggedRows
from training.proof.simulation import LogShape, World
from training.proof.trusted_labels import source_bias, trusted_difference
from training.publishing.certificate_page import certificate_page

SCHEMA = FeatureSchema((FeatureBlock(name="text", encoder="made-up", sha256="0" * 64, dim=4),))
CANDIDATES = tuple(
    Candidate(
        id=f"candidate-{m}",
        price=Price(input_usd_per_mtok=m + 1.0, output_usd_per_mtok=m + 1.0),
        max_images=4,
    )
    for m in range(4)
)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def world_log(seed, **shape):
    """Return a simulated log."""
    return World.make().log(LogShape(**shape), champion_blur=0.4, bad_blur=0.5, seed=seed)


def labelled(log):
    """Return a simulated log as certifying takes it."""
    return LabelledRows(rows=log.rows, trusted_NM=log.trusted_NM, untrusted_NM=log.untrusted_NM)


def trained(log, version):
    """Return a router fitted on a log."""
    config = FitConfig(version=version, num_anchors=128, num_kinds=4)
    return fit_router(log.rows, config, schema=SCHEMA, candidates=CANDIDATES)[0]


@pytest.fixture(scope="module")
def trial(tmp_path_factory):
    """Return a good challenger, a champion of few rows, and held-out rows."""
    learned = world_log(1, num_rows=10, num_calibration=800)
    challenger = trained(learned, "new")
    folder = tmp_path_factory.mktemp("artifacts") / "new"
    return Trial(
        challenger=challenger,
        manifest_sha256=save_artifact(folder, challenger),
        champion=trained(world_log(2, num_rows=10, num_calibration=20), "old"),
        train=learned.rows,
        held_out=labelled(world_log(3, num_rows=1500, num_calibration=600)),
        candidates=CANDIDATES,
        served_schema_hash=SCHEMA.hash,
        golden=(np.ones((2, 4)), np.ones((2, 4)) + 0.001),
        first_time=NOON,
        last_time=NOON + timedelta(days=1),
    )


@pytest.fixture(scope="module")
def certificate(trial):
    """Return the certificate of that trial, with a clock that ticks by a millisecond."""
    return certify(trial, GateConfig(), now=NOON, timer=ticking())


def ticking():
    """Return a timer that tells a millisecond more each time."""
    ticks = count()
    return lambda: next(ticks) * 1e-3


def test_a_better_router_is_certified(trial, certificate, tmp_path):
    """It passes, says so of its own artifact, and comes back from disk equal."""
    assert certificate.reasons == ()
    certificate.verify(trial.manifest_sha256)
    (tmp_path / "certificate.json").write_bytes(certificate.to_json())
    assert load_certificate(tmp_path / "certificate.json") == certificate
    found = certificate.evidence
    assert set(found.values) == {"challenger", "champion", "best_single", "neighbours"}
    assert set(found.values["challenger"]) == {"ips", "snips", "dr"}
    assert found.decision_time.ratio == pytest.approx(1.0)
    assert found.parity.same_choice_share == 1.0
    assert found.parity.num_decisions == found.decision_time.num_decisions == 200
    assert found.parity.golden_difference == pytest.approx(0.001)
    assert found.dataset.num_rows == 2100
    assert {"with image", "without image"} <= {part.name for part in found.slices}
    assert sum(found.choices.challenger.values()) == pytest.approx(1.0)


def test_equal_inputs_give_equal_bytes(trial, certificate):
    """Certificate and page are functions of what goes in."""
    again = certify(trial, GateConfig(), now=NOON, timer=ticking())
    assert again.to_json() == certificate.to_json()
    assert certificate_page(again) == certificate_page(certificate)


def test_the_worse_router_is_refused_in_the_other_direction(trial):
    """With the parts exchanged the gates fail, and the page shows it."""
    swapped = dataclasses.replace(trial, challenger=trial.champion, champion=trial.challenger)
    found = certify(swapped, GateConfig(), now=NOON, timer=ticking())
    with pytest.raises(GatesFailedError, match="gain_over_champion"):
        found.verify(trial.manifest_sha256)
    assert "class='failed'>failed</span></h1>" in certificate_page(found)


def test_a_first_version_needs_no_champion(trial):
    """Without a champion the best single candidate is the rival."""
    first = dataclasses.replace(trial, champion=None, golden=None)
    found = certify(first, GateConfig(), now=NOON, timer=ticking())
    assert found.reasons == ()
    assert found.evidence.rival == "best_single"
    assert "none serves yet" in certificate_page(found)


def test_cost_can_be_weighed(trial):
    """With a weight on cost the values fall by what the choices cost."""
    weighed = dataclasses.replace(trial, routing=Routing(cost_weight=0.3))
    found = certify(weighed, GateConfig(), now=NOON, timer=ticking()).evidence
    free = certify(trial, GateConfig(), now=NOON, timer=ticking()).evidence
    assert found.values["challenger"]["dr"].value < free.values["challenger"]["dr"].value
    assert found.choices.challenger["candidate-0"] > free.choices.challenger["candidate-0"]


def test_trials_that_prove_nothing_are_refused(trial):
    """Other columns, wishes that batches do not honour, and logs without exploration."""
    with pytest.raises(InvalidInputError, match="columns"):
        dataclasses.replace(trial, candidates=CANDIDATES[::-1])
    with pytest.raises(InvalidInputError, match="cost_weight and latency_weight alone"):
        dataclasses.replace(trial, routing=Routing(caution=1.0))
    bad = dataclasses.replace(trial, golden=(np.ones((1, 4)), np.ones((2, 4))))
    with pytest.raises(InvalidInputError, match="golden"):
        certify(bad, GateConfig(), now=NOON)
    sure = trial.held_out.subset(np.arange(50))
    chosen_NM = np.where(np.isfinite(sure.rows.score_NM), 1.0, np.nan)
    rows = dataclasses.replace(sure.rows, propensity_NM=chosen_NM)
    greedy_log = dataclasses.replace(trial, held_out=LabelledRows.all_trusted(rows))
    with pytest.raises(InvalidInputError, match="exploration"):
        certify(greedy_log, GateConfig(), now=NOON)


def test_a_candidate_without_a_profile_is_not_chosen(trial):
    """A router that knows three of four candidates is judged by its choices among three."""
    few = {n: p for n, p in trial.challenger.profiles.items() if n != "candidate-1"}
    challenger = dataclasses.replace(trial.challenger, profiles=few)
    found = certify(
        dataclasses.replace(trial, challenger=challenger), GateConfig(), now=NOON, timer=ticking()
    ).evidence
    assert found.choices.challenger["candidate-1"] == 0.0
    assert found.parity.same_choice_share == 1.0
    assert "candidate-1" not in found.calibration


def test_names_on_the_page_are_text(certificate):
    """A name with markup or a formula in it is shown as it is."""
    odd = SliceDifference(name="<b>$x</b> $y$", difference=certificate.evidence.clipped_difference)
    evidence = certificate.evidence.model_copy(update={"slices": (odd,)})
    page = certificate_page(
        Certificate(evidence=evidence, gates=certificate.gates, gate_config={"<i>": 1})
    )
    assert "<b>" not in page
    assert "<i>" not in page


def test_calibration_is_the_gap_by_bins():
    """0.2 said and 0.5 seen on half the weight, 0.9 said and seen on the other: 0.15."""
    found = calibration(
        np.array([0.25, 0.25, 0.95, 0.95]), np.array([0.0, 1.0, 1.0, 0.9]), np.ones(4)
    )
    assert found.error == pytest.approx((0.5 + 0.0) / 4)
    assert found.by_chance > 0


def test_entropy_is_zero_for_one_and_one_for_all_alike():
    """Shares of one candidate alone, of all alike, and of a pool of one."""
    assert share_entropy(np.array([1.0, 0.0])) == 0.0
    assert share_entropy(np.full(4, 0.25)) == pytest.approx(1.0)
    assert share_entropy(np.ones(1)) == 0.0


def test_a_contest_has_two_contestants():
    """Without a baseline there is nothing to compare with."""
    log = world_log(0, num_rows=20)
    rows = LoggedRows.of(log.rows, np.zeros(log.quality_NM.shape))
    with pytest.raises(InvalidInputError, match="best_single"):
        Contest(
            rows=rows,
            candidate_ids=log.rows.candidate_ids,
            policies={"challenger": log.quality_NM},
            trusted_NM=log.trusted_NM,
            untrusted_NM=log.untrusted_NM,
        )


def compare(log, **changes):
    """Return the gain of the best policy over the logging one by trusted labels."""
    world = World.make()
    inputs_NP = log.rows.features_NF.astype(float)
    policies = (world.policy(inputs_NP, log.rows.available_NM, blur) for blur in (0.2, 0.4))
    labels = {"trusted_NM": log.trusted_NM, "untrusted_NM": log.untrusted_NM} | changes
    rows = LoggedRows.of(log.rows, np.full(log.quality_NM.shape, 0.5))
    return trusted_difference(rows, *labels.values(), *policies)


def test_honest_users_make_trusted_labels_surer():
    """Without a calibration set users narrow the interval; users who lie do not shift it."""
    log = world_log(0, num_rows=4000, num_calibration=0, trusted_share=0.3, user_error=0.0)
    nobody_NM = np.full(log.quality_NM.shape, np.nan)
    alone, honest = compare(log, untrusted_NM=nobody_NM), compare(log)
    assert honest.high - honest.low < 0.8 * (alone.high - alone.low)
    liars = compare(log, untrusted_NM=1 - log.untrusted_NM)
    assert liars.value == pytest.approx(alone.value, abs=0.02)


def test_a_calibration_set_decides_alone():
    """With enough full rows no user's label is looked at; with too few of any nothing is said."""
    log = world_log(0, num_rows=300, num_calibration=300)
    assert compare(log) == compare(log, untrusted_NM=1 - log.untrusted_NM)
    few = world_log(0, num_rows=100, num_calibration=0, trusted_share=0.1)
    assert compare(few) is None


def test_flattered_candidates_are_found():
    """A candidate whose untrusted labels are all good stands out; few pairs tell nothing."""
    log = world_log(0, num_rows=2000, num_calibration=0, trusted_share=0.5, user_error=0.0)
    ids, group_N = log.rows.candidate_ids, log.rows.group_N
    praised_NM = log.untrusted_NM.copy()
    praised_NM[:, 1] = np.where(np.isfinite(praised_NM[:, 1]), 1.0, np.nan)
    bias = source_bias(log.trusted_NM, praised_NM, group_N, ids)
    assert bias["candidate-1"].low > 0.1
    assert bias["candidate-0"].value == 0.0
    assert source_bias(log.trusted_NM[:20], praised_NM[:20], group_N[:20], ids) == {}


def test_splits_keep_groups_whole():
    """A query lies on one side, with all its labels."""
    rows = labelled(world_log(0, num_rows=300))
    train, held_out = rows.split(held_out=0.3, seed=0)
    assert not set(train.rows.group_N) & set(held_out.rows.group_N)
    assert len(train) + len(held_out) == len(rows)
    with pytest.raises(InvalidInputError, match="held_out"):
        rows.split(held_out=1.0, seed=0)
    with pytest.raises(InvalidInputError, match="labels must have shape"):
        dataclasses.replace(rows, trusted_NM=rows.trusted_NM[:3])


def test_labels_of_each_kind_are_read_apart(tmp_path):
    """Both kinds lie in the places of the rows; the label that counts is the trusted one."""
    with_log(tmp_path, [("d0", [("user:a", 1.0), ("gold", 0.0)]), ("d1", [("judge:b", 0.5)])])
    found = labelled_rows_from_log(tmp_path, schema_hash="f" * 64, candidate_ids=("a", "b"))
    assert found.rows.score_NM[:, 0].tolist() == [0.0, 0.5]
    assert np.array_equal(found.trusted_NM[:, 0], [0.0, np.nan], equal_nan=True)
    assert np.array_equal(found.untrusted_NM[:, 0], [1.0, 0.5])
    own = labelled_rows_from_log(
        tmp_path, schema_hash="f" * 64, candidate_ids=("a", "b"), trusted=("judge",)
    )
    assert np.array_equal(own.trusted_NM[:, 0], [np.nan, 0.5], equal_nan=True)


def with_log(root, answers):
    """Write a log of greedy answers of candidate ``a`` with labels by source."""
    outcomes, labels = (
        SegmentWriter(root, table, writer="test") for table in ("outcomes", "labels")
    )
    for number, (decision_id, given) in enumerate(answers):
        decision = Decision(
            decision_id=decision_id,
            router_version="1",
            feature_schema_hash="f" * 64,
            candidate_ids=("a", "b"),
            refusals=(None, None),
            choice="a",
            propensity=0.9,
            policy=Policy.GREEDY,
            features_F=np.zeros(2, dtype=np.float32),
        )
        outcomes.append(
            Outcome(
                time=NOON,
                decision=decision,
                shape=QueryShape(num_chars=10),
                routing=Routing(),
                query_sha256=f"{number:02d}",
                requested_model="auto",
                pool_age_s=0.1,
                attempts=(Attempt(candidate_id="a", started_s=0.0, duration_s=1.0),),
                answered_by="a",
                status=Status.OK,
                usage=Usage(input_tokens=1, output_tokens=1, cost_usd=0.0),
            )
        )
        for source, score in given:
            labels.append(Label(time=NOON, decision_id=decision_id, score=score, source=source))
    for writer in (outcomes, labels):
        writer.flush()
        writer.close()
