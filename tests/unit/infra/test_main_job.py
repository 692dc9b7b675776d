"""The lines on tests come from CI's output, and stay on the page until it is read again."""

from infra.evidence.entry import by_line, write_page
from infra.evidence.main_job import ci_entries, kept_ci_entries

LOG = """== check: passed in 170 s
Total coverage: 99.70%
============== 3458 passed, 2 skipped in 812.20s (0:13:32) ==============
== test: passed in 815 s
"""


def test_tests_and_coverage_are_read_from_the_log(tmp_path):
    """Both hold."""
    log = tmp_path / "ci.log"
    log.write_text(LOG)
    assert [(e.figure, e.holds) for e in ci_entries(log)] == [(3458.0, True), (99.7, True)]


def test_a_failed_test_is_told(tmp_path):
    """Its line does not hold, however many passed."""
    log = tmp_path / "ci.log"
    log.write_text(LOG.replace("3458 passed", "1 failed, 3457 passed"))
    assert [e.holds for e in ci_entries(log)] == [False, True]


def test_the_page_keeps_what_was_tested_last(tmp_path):
    """With its commit, and named by the line alone."""
    log = tmp_path / "ci.log"
    log.write_text(LOG)
    told = ci_entries(log)
    write_page("main-job", "", by_line(told), folder=tmp_path)
    assert kept_ci_entries(tmp_path / "main-job.json") == told
    assert kept_ci_entries(tmp_path / "absent.json") == []
