"""The evidence of learning: parts are stored apart, and the page is made of those there are."""

from __future__ import annotations

import copy
import json
import types

import pytest

from infra.evidence.learning import BOOK, kills, log, scale, studies
from infra.evidence.learning.scale_log import CANDIDATES, write_log
from infra.evidence.parts import WIDTH, Book, wrapped
from training.data.log_sample import Part, Sample
from training.data.outcome_rows import training_set_from_log

STUDY = {"num_logs": 20, "num_passed": 20, "failed": {}}
REFUSED = {"num_logs": 20, "num_passed": 0, "failed": {"gain": 20}}
WORLD = {
    "seed": 0,
    "coverage": {"dr": 0.95, "dr_difference": 0.94, "ips": 0.95, "snips": 0.95},
    "rmse": {"dr": 0.01, "ips": 0.02},
    "num_rows": 4000,
    "values": {"champion": 0.7, "better": 0.8, "worse": 0.6},
    "better": STUDY,
    "worse": REFUSED,
}
STUDIES = {
    "num_logs": 500,
    "gate_rows": 4000,
    "gate_calibration": 600,
    "explore_share": 0.2,
    "poison_share": 0.05,
    "worlds": [WORLD, {**WORLD, "seed": 1}],
    "poison": {"random": REFUSED},
    "better_poisoned": {"random": STUDY},
}
RATE = {
    "num_rows": 1000, "append_s": 0.001, "spool_s": 0.01, "commit_s": 0.01, "elapsed_s": 0.1,
    "num_segment_bytes": 9, "num_dropped": 0, "rows_per_core_s": 47_000.0,
}  # fmt: skip
LOG = {
    "num_features": 8,
    "rates": [RATE],
    "loads": [
        {"name": name, "num_requests": 100, "without_s": 1.0, "recorded_s": 1.02, "recording_s": s}
        for name, s in (("bare", 0.8), ("picture", 0.01))
    ],
    "s3": [{"claim": "One is first.", "name": "test_one", "passed": True}],
}
SIZE = {
    "num_logged": 10_000, "num_bytes": 10, "num_rows": 8000, "num_labels": 8100, "read_s": 1.0,
    "fit_s": 9.0, "total_s": 10.0, "start_mb": 400.0, "read_peak_mb": 500.0, "peak_mb": 600.0,
}  # fmt: skip
SCALE = {
    "num_features": 8,
    "num_candidates": 4,
    "runs": [SIZE, {**SIZE, "num_logged": 100_000, "total_s": 90.0, "peak_mb": 1500.0}],
}
TRAINING = {
    "num_kills": 20, "num_with_checkpoint": 9, "num_runs": 7, "num_whole": 7,
    "largest_difference": 1e-6,
}  # fmt: skip
KILLS = {
    "writer": {
        "num_kills": 20, "num_acknowledged": 900, "num_lost": 0, "num_appended": 400,
        "num_doubled": 0, "num_faults": 0, "num_left": 0,
    },
    "worker": TRAINING,
    "driver": TRAINING,
}  # fmt: skip
RESULTS = {"studies": STUDIES, "log": LOG, "scale": SCALE, "kills": KILLS}


def changed(result, *path, to):
    """Return a result with one value changed."""
    result = copy.deepcopy(result)
    place = result
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = to
    return result


def store(folder, results):
    """Store results as a measurement does."""
    folder.mkdir(exist_ok=True)
    for name, result in results.items():
        measured = {
            "commit": "c0ffee", "conditions": "2 cores", "elapsed_s": 3.0,
            "command": f"run {name}", "result": result,
        }  # fmt: skip
        (folder / f"{name}.json").write_text(json.dumps(measured))


def test_the_page_is_made_of_the_parts_that_there_are(tmp_path):
    """Missing parts are named; each entry carries its own measurement's command and commit."""
    store(tmp_path / "results", {"kills": KILLS, "scale": SCALE})
    entries = BOOK.write(folder=tmp_path / "results", into=tmp_path)
    assert [entry.line for entry in entries] == ["C5", "C5b", "C5c", "C6", "C6b", "C6c"]
    assert {(entry.command, entry.commit) for entry in entries} == {
        ("run kills", "c0ffee"), ("run scale", "c0ffee"),
    }  # fmt: skip
    text = (tmp_path / "learning.md").read_text()
    (missing,) = [line for line in text.splitlines() if line.startswith("Not measured: ")]
    assert missing[14:-1].split(", ") == [n for n in BOOK.parts if n not in ("kills", "scale")]
    assert len(json.loads((tmp_path / "learning.json").read_text())) == len(entries)


def test_a_part_may_be_measured_anew_without_the_others(tmp_path):
    """What the others told is kept beside the page."""
    store(tmp_path / "first", RESULTS)
    before = BOOK.write(folder=tmp_path / "first", into=tmp_path)
    store(tmp_path / "second", {"kills": changed(KILLS, "writer", "num_lost", to=1)})
    after = BOOK.write(folder=tmp_path / "second", into=tmp_path)
    differing = [new.line for old, new in zip(before, after, strict=True) if old != new]
    assert differing == ["C5"]
    assert (tmp_path / "learning.md").read_text().count("\n## ") == len(RESULTS)


def test_prose_is_wrapped_and_nothing_else():
    """Headings and tables stay as they are."""
    table = ["| a | b |", "|---|---|", f"| {'x' * 120} | 1 |"]
    prose = ["0", "of 1,000", *["and so on"] * 20]
    heading, body, rows = wrapped(["## Kills", "", *prose, "", *table]).split("\n\n")
    assert (heading, rows.splitlines()) == ("## Kills", table)
    assert body.split() == " ".join(prose).split()
    assert all(WIDTH - 10 < len(line) <= WIDTH for line in body.splitlines()[:-1])


def test_what_is_within_every_bar_holds(tmp_path):
    """Each line holds, and each part's section is there."""
    store(tmp_path / "results", RESULTS)
    entries = BOOK.write(folder=tmp_path / "results", into=tmp_path)
    assert [entry.line for entry in entries if not entry.holds] == []
    assert (tmp_path / "learning.md").read_text().count("\n## ") == len(RESULTS)


@pytest.mark.parametrize(
    ("part", "wrong", "line"),
    [
        (studies, changed(STUDIES, "worlds", 1, "coverage", "dr", to=0.92), "C3"),
        (studies, changed(STUDIES, "worlds", 0, "worse", "num_passed", to=1), "C3"),
        (studies, changed(STUDIES, "worlds", 0, "better", "num_passed", to=17), "C3"),
        (studies, changed(STUDIES, "worlds", 1, "rmse", "dr", to=0.03), "C3"),
        (studies, changed(STUDIES, "poison", "random", "num_passed", to=1), "C7"),
        (log, changed(LOG, "rates", 0, "rows_per_core_s", to=19_999.0), "C6"),
        (log, changed(LOG, "loads", 1, "recording_s", to=0.05), "C6"),
        (log, changed(LOG, "s3", 0, "passed", to=False), "C6"),
        (log, changed(LOG, "s3", to=[]), "C6"),
        (scale, changed(SCALE, "runs", 1, "peak_mb", to=2050.0), "C6"),
        (scale, changed(SCALE, "runs", 1, "total_s", to=101.0), "C6"),
        (kills, changed(KILLS, "writer", "num_lost", to=1), "C5"),
        (kills, changed(KILLS, "writer", "num_left", to=1), "C5"),
        (kills, changed(KILLS, "worker", "num_whole", to=6), "C5"),
        (kills, changed(KILLS, "driver", "num_kills", to=3), "C5"),
    ],
)
def test_one_figure_beyond_its_bar_is_told(part, wrong, line):
    """The line does not hold, whatever the other figures say."""
    assert line in {entry.line for entry in part.lines(wrong) if not entry.holds}
    assert part.section(wrong).startswith("## ")


def test_a_part_gets_the_settings_it_names(tmp_path, monkeypatch):
    """The others are for other parts; the command tells what was set."""
    part = types.SimpleNamespace(run=lambda *, kills=20: {"kills": kills})
    monkeypatch.setattr(Book, "part", lambda *_: part)
    measured = BOOK.measure("kills", {"kills": 3, "rows": "10", "logs": None}, folder=tmp_path)
    assert measured.result == {"kills": 3}
    assert measured.command == "python -m infra.evidence.learning --part kills --kills 3"
    assert json.loads((tmp_path / "kills.json").read_text())["result"] == {"kills": 3}


@pytest.mark.parametrize("name", RESULTS)
def test_a_part_is_a_module_of_three_functions(name):
    """What the page calls is there."""
    part = BOOK.part(name)
    assert all(callable(getattr(part, function)) for function in ("run", "lines", "section"))


def test_the_made_up_log_is_read_as_a_real_one(tmp_path):
    """About nine tenths of its outcomes can be learned from; pinned questions are whole."""
    write_log(str(tmp_path), 800, num_features=6, schema_hash="f" * 64)
    rows = training_set_from_log(
        tmp_path, schema_hash="f" * 64, candidate_ids=CANDIDATES, sample=Sample(part=Part.ALL)
    )
    assert rows.full_information().sum() >= 800 // 20 // len(CANDIDATES)
    assert 0.8 * 800 < rows.observed().sum() < 800
    assert (rows.num_observed() > 50).all()
