"""Which outcomes a training sees: parts that do not overlap, a bounded and steady draw."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.outcome import Attempt, Label, Outcome, Status
from monitoring.outcome_log import SegmentWriter
from router.errors import InvalidInputError
from router.records import Decision, Policy, QueryShape, Routing
from training.data.log_sample import PROOF_SHARE, Labelled, Part, Sample, _Drawn
from training.data.outcome_rows import training_set_from_log

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ANY_PACE = settings(deadline=None)
"""A pause of the machine is no fault of the draw."""

QUERIES = st.text("0123456789abcdef", min_size=8, max_size=64)


def sha256(number):
    """Return the hash of a query."""
    return hashlib.sha256(f"{number}".encode()).hexdigest()


def outcome(number, *, days=0.0, query=None, policy=Policy.GREEDY):
    """Return what the draw looks at."""
    return {
        "decision_id": f"d{number}",
        "query_sha256": query or sha256(number),
        "time": NOW - timedelta(days=days),
        "policy": policy.value,
    }


def drawn(rows, **sample):
    """Return the decisions drawn of some outcomes."""
    one = _Drawn(Sample(**sample))
    for row in rows:
        one.offer(row, NOW)
    return one.decisions()


@ANY_PACE
@given(QUERIES)
def test_a_query_is_learned_from_or_proven_on(query):
    """One of the two, and both times the same; all queries are in the whole."""
    assert Part.LEARN.holds(query) != Part.PROVE.holds(query)
    assert Part.ALL.holds(query)
    assert Part.PROVE.holds(query) == Part.PROVE.holds(query)


@ANY_PACE
@given(QUERIES, st.text("0123456789abcdef"))
def test_the_part_stands_in_the_first_digits(query, rest):
    """Nothing else of a query, of its row or of the log moves it."""
    assert Part.PROVE.holds(query) == Part.PROVE.holds(query[:8] + rest)


def test_the_share_to_prove_on_is_kept():
    """Of 4,000 queries about the promised share, within four standard errors."""
    share = np.mean([Part.PROVE.holds(sha256(number)) for number in range(4000)])
    assert abs(share - PROOF_SHARE) < 4 * (PROOF_SHARE * (1 - PROOF_SHARE) / 4000) ** 0.5


@ANY_PACE
@given(
    ages=st.lists(st.floats(0, 400), min_size=1, max_size=60),
    max_rows=st.integers(1, 30),
    seed=st.integers(0, 5),
    order=st.randoms(use_true_random=False),
)
def test_a_draw_is_bounded_and_knows_no_order(ages, max_rows, seed, order):
    """As many as asked for or all there are; the same log in any order gives the same sample."""
    rows = [outcome(number, days=days) for number, days in enumerate(ages)]
    found = drawn(rows, max_rows=max_rows, seed=seed)
    assert len(found) == min(max_rows, len(rows))
    order.shuffle(rows)
    assert drawn(rows, max_rows=max_rows, seed=seed) == found


@ANY_PACE
@given(num_rows=st.integers(1, 60), max_rows=st.integers(1, 30))
def test_a_larger_sample_holds_the_smaller(num_rows, max_rows):
    """More rows are added to those that were drawn, not drawn anew."""
    rows = [outcome(number, days=number) for number in range(num_rows)]
    assert drawn(rows, max_rows=max_rows) <= drawn(rows, max_rows=max_rows + 1)


@ANY_PACE
@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=20),
    num_routed=st.integers(0, 20),
    max_rows=st.integers(1, 15),
)
def test_pinned_questions_stay_whole(sizes, num_routed, max_rows):
    """All answers to one are drawn or none; together they count as one row."""
    rows = [
        outcome(f"{query}-{m}", query=sha256(query), policy=Policy.PINNED, days=query)
        for query, size in enumerate(sizes)
        for m in range(size)
    ]
    rows += [outcome(number) for number in range(num_routed)]
    found = drawn(rows, max_rows=max_rows)
    whole = [{f"d{query}-{m}" for m in range(size)} <= found for query, size in enumerate(sizes)]
    touched = [f"d{query}-0" in found for query in range(len(sizes))]
    assert whole == touched
    routed = sum(f"d{number}" in found for number in range(num_routed))
    assert sum(whole) + routed == min(max_rows, len(sizes) + num_routed)


def test_a_cut_on_the_way_changes_nothing():
    """More outcomes than are kept at a time: the draw is that of all of them at once."""
    rows = [outcome(number, days=number % 90) for number in range(3000)]
    keys = {}
    for row in rows:
        alone = _Drawn(Sample(max_rows=1))
        alone.offer(row, NOW)
        keys[row["decision_id"]] = alone._keys[0]
    best = sorted(keys, key=keys.get)[-20:]
    assert drawn(rows, max_rows=20) == set(best)


def test_older_rows_are_rarer_but_not_gone():
    """A half-life back, half as likely: of 400 drawn of 20,000, in equal numbers new and old."""
    rows = [outcome(number, days=30 * (number % 2)) for number in range(20_000)]
    found = drawn(rows, max_rows=400, half_life_days=30.0)
    num_old = sum(int(name[1:]) % 2 for name in found)
    expected = 400 / 3
    assert abs(num_old - expected) < 4 * (400 * (1 / 3) * (2 / 3)) ** 0.5


def test_pinned_questions_do_not_age():
    """What calibration asked long ago is drawn like what it asked today."""
    rows = [
        outcome(number, days=300 * (number % 2), policy=Policy.PINNED) for number in range(4000)
    ]
    num_old = sum(int(name[1:]) % 2 for name in drawn(rows, max_rows=400))
    assert abs(num_old - 200) < 4 * (400 / 4) ** 0.5


@ANY_PACE
@given(st.sets(st.text(max_size=8)), st.lists(st.text(max_size=8)))
def test_labels_are_known_by_their_decision(labelled, asked):
    """In any number of batches, none included."""
    batches = [pa.RecordBatch.from_pydict({"decision_id": [name]}) for name in labelled]
    assert Labelled.of(batches).among(asked).tolist() == [name in labelled for name in asked]


@pytest.mark.parametrize("wrong", [{"max_rows": 0}, {"half_life_days": 0.0}])
def test_a_sample_of_nothing_is_refused(wrong):
    """The error names the field."""
    with pytest.raises(InvalidInputError, match="max_rows must be 1 or more"):
        Sample(**wrong)


def write_log(root, num_rows):
    """Write routed outcomes with one feature, their number, and a label each."""
    writers = {table: SegmentWriter(root, table, writer="t") for table in ("outcomes", "labels")}
    for number in range(num_rows):
        decision = Decision(
            decision_id=f"d{number}",
            router_version="7",
            feature_schema_hash="f" * 64,
            candidate_ids=("small",),
            refusals=(None,),
            choice="small",
            propensity=1.0,
            policy=Policy.GREEDY,
            features_F=np.array([number], dtype=np.float32),
        )
        writers["outcomes"].append(
            Outcome(
                time=NOW - timedelta(days=number % 50),
                decision=decision,
                shape=QueryShape(num_chars=8),
                routing=Routing(),
                query_sha256=sha256(number % 150),
                requested_model="auto",
                pool_age_s=0.1,
                attempts=(Attempt(candidate_id="small", started_s=0.1, duration_s=0.5),),
                answered_by="small",
                status=Status.REJECTED if number % 11 == 0 else Status.OK,
            )
        )
        writers["labels"].append(
            Label(time=NOW, decision_id=f"d{number}", score=1.0, source="user")
        )
    for writer in writers.values():
        writer.flush()
        writer.close()


def read(root, part, max_rows=1000):
    """Return the numbers of the rows that a training reads."""
    rows = training_set_from_log(
        root,
        schema_hash="f" * 64,
        candidate_ids=("small",),
        sample=Sample(part=part, max_rows=max_rows, until=NOW),
    )
    return rows.features_NF[:, 0].astype(int).tolist()


def test_parts_of_a_log_are_disjoint_and_complete(tmp_path):
    """No query lies in both, and no usable row in neither; reading again gives the same."""
    write_log(tmp_path, 300)
    learn, prove, whole = (read(tmp_path, part) for part in Part)
    assert sorted(learn + prove) == sorted(whole) == [n for n in range(300) if n % 11]
    assert not {n % 150 for n in learn} & {n % 150 for n in prove}
    assert len(read(tmp_path, Part.LEARN, 40)) == 40
    assert read(tmp_path, Part.LEARN, 40) == read(tmp_path, Part.LEARN, 40)
