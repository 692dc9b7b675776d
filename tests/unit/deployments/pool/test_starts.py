"""Starts are timed by what is seen of replicas; before the first one the block's word counts."""

from deployments.pool.starts import StartTimes
from router.candidate import Candidate, Price
from router.records import Capacity, Pool, Refusal, Standing

SMALL = Candidate(id="small", price=Price(input_usd_per_mtok=1.0, output_usd_per_mtok=1.0))


def expected_s(starts, now_s, refusal=Refusal.COLD, *, told_s=120.0):
    """Return the expected start of the only candidate."""
    standing = Standing(candidate=SMALL, refusal=refusal, capacity=Capacity(start_s=told_s))
    (standing,) = starts.expected(Pool(standings=(standing,)), now_s).standings
    return standing.capacity.start_s


def look(starts, now_s, **states):
    """Show the replicas of the candidate."""
    starts.look({"small": states}, now_s)


def test_before_a_start_the_block_is_believed():
    """A candidate that will not start has no time."""
    assert expected_s(StartTimes(), 0.0) == 120.0
    assert expected_s(StartTimes(), 0.0, told_s=None) is None


def test_a_start_is_timed_from_its_first_sight():
    """20 s, then 40 s: half of the weight is the latest one's."""
    starts = StartTimes()
    look(starts, 0.0)
    look(starts, 10.0, r1="STARTING")
    look(starts, 20.0, r1="STARTING")
    look(starts, 30.0, r1="RUNNING")
    assert expected_s(starts, 30.0) == 20.0
    look(starts, 40.0, r1="RUNNING", r2="STARTING")
    look(starts, 80.0, r1="RUNNING", r2="RUNNING")
    look(starts, 99.0, r1="RUNNING", r2="RUNNING")
    assert expected_s(starts, 99.0) == 30.0


def test_a_start_under_way_has_less_before_it():
    """The one that began first counts; an overdue one may come at any time."""
    starts = StartTimes()
    look(starts, 0.0)
    look(starts, 10.0, r1="STARTING")
    look(starts, 50.0, r1="STARTING", r2="STARTING")
    assert expected_s(starts, 60.0, Refusal.STARTING) == 70.0
    assert expected_s(starts, 500.0, Refusal.STARTING) == 0.0
    assert expected_s(starts, 60.0, Refusal.COLD) == 120.0


def test_a_start_whose_beginning_nobody_saw_is_not_timed():
    """It was under way at the first look; one that failed or was removed is forgotten."""
    starts = StartTimes()
    look(starts, 0.0, r1="STARTING")
    look(starts, 1.0, r1="RUNNING")
    assert expected_s(starts, 1.0) == 120.0
    look(starts, 2.0, r2="STARTING")
    look(starts, 3.0)
    look(starts, 9.0, r2="RUNNING")
    starts.look({}, 10.0)
    assert expected_s(starts, 10.0) == 120.0
