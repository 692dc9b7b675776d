"""A candidate that fails on a damaged picture is not to blame for it."""

import time

import pytest

from deployments.attempts import AllFailedError, CandidateBusyError, CandidateFailedError, Log
from deployments.dispatching.dispatch import Dispatcher
from deployments.dispatching.failures import blame
from deployments.pool.ejection import Ejection
from router.candidate import Candidate, Price
from router.errors import BadImageError
from router.records import Pool, Standing

PRICE = Price(input_usd_per_mtok=1.0, output_usd_per_mtok=1.0)


def damaged():
    """Find the request at fault, as decoding its pictures does."""
    raise BadImageError("the image/png is damaged", "messages.0.content.1.image_url.url")


def sound():
    """Find nothing."""


class BrokenDispatcher(Dispatcher):
    """Every call fails."""

    def __init__(self):
        """Start without a failure."""
        self.ejection = Ejection()
        standing = Standing(candidate=Candidate(id="a", price=PRICE), num_running=1)
        super().__init__(lambda: Pool(standings=(standing,)), ejection=self.ejection)

    async def _handle(self, candidate_id):
        raise RuntimeError(f"{candidate_id} cannot read it")

    async def ask(self, check):
        """Call the one candidate."""
        now_s = time.monotonic()
        return await self.call(
            ["a"],
            lambda _: {"stream": False},
            deadline_s=now_s + 5.0,
            log=Log(now_s),
            check=check,
        )


async def test_a_user_with_damaged_pictures_ejects_nobody():
    """However often; the user is told which picture it is."""
    dispatcher = BrokenDispatcher()
    for _ in range(10):
        with pytest.raises(BadImageError, match="damaged") as caught:
            await dispatcher.ask(damaged)
        assert caught.value.field == "messages.0.content.1.image_url.url"
    assert dispatcher.ejection.ejected(["a", "b"], time.monotonic()) == frozenset()


async def test_with_sound_pictures_the_candidate_failed():
    """And is ejected as ever."""
    dispatcher = BrokenDispatcher()
    for _ in range(3):
        with pytest.raises(AllFailedError, match="cannot read it"):
            await dispatcher.ask(sound)
    assert dispatcher.ejection.ejected(["a", "b"], time.monotonic()) == {"a"}


async def test_a_busy_candidate_looked_at_nothing():
    """So nothing is looked for."""
    busy, failed = CandidateBusyError("full", 1.0), CandidateFailedError("no")
    assert await blame(busy, damaged) is busy
    assert await blame(failed, None) is failed
    assert await blame(failed, sound) is failed
