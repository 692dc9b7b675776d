"""Nobody waits for a router of which no replica runs."""

import asyncio
import time

import pytest

from deployments.fail_open import RouterGoneError
from deployments.pool.router_watch import TRUSTED_S, RouterWatch


def details(*states):
    """Return Serve's status with a router of so many replicas."""
    replicas = [{"replica_id": str(at), "state": state} for at, state in enumerate(states)]
    deployments = {"ingress": {"replicas": []}, "router": {"replicas": replicas}}
    return {"applications": {"router": {"deployments": deployments}}}


@pytest.fixture
def watch():
    """Return a watch of the application ``router``."""
    return RouterWatch("router")


@pytest.mark.parametrize(
    ("seen", "is_gone"),
    [
        (details(), True),
        (details("STARTING"), True),
        (details("STOPPING", "STARTING"), True),
        (details("RUNNING"), False),
        (details("STARTING", "RUNNING"), False),
        (details("RECOVERING"), False),
        (details("PENDING_MIGRATION"), False),
        ({"applications": {"router": {"deployments": {}}}}, False),
        ({"applications": {}}, False),
    ],
)
def test_the_router_is_gone_when_no_replica_of_it_serves(watch, seen, is_gone):
    """What is not told is taken for there: whoever asks learns it from the answer."""
    watch.look(seen, 10.0)
    assert watch.is_gone(10.5) is is_gone


def test_another_application_says_nothing(watch):
    """Two systems on one Serve watch their own."""
    other = details("RUNNING")
    other["applications"]["tenant"] = details("STARTING")["applications"]["router"]
    watch.look(other, 10.0)
    assert not watch.is_gone(10.0)
    tenant = RouterWatch("tenant")
    tenant.look(other, 10.0)
    assert tenant.is_gone(10.0)


def test_an_old_look_does_not_count(watch):
    """While Serve's status cannot be had, the router is asked again."""
    watch.look(details("STARTING"), 10.0)
    assert watch.is_gone(10.0 + TRUSTED_S)
    assert not watch.is_gone(10.1 + TRUSTED_S)


def test_it_is_there_again_at_the_next_look(watch):
    """From one look to the next."""
    watch.look(details("STARTING"), 10.0)
    watch.look(details("RUNNING"), 11.0)
    assert not watch.is_gone(11.0)


async def test_who_waits_stops_when_the_last_replica_goes(watch):
    """Long before the time is up, all at once."""
    entered = asyncio.Event()

    async def wait():
        async with watch.while_there(60.0):
            entered.set()
            await asyncio.sleep(60.0)

    waits = [asyncio.create_task(wait()) for _ in range(3)]
    await entered.wait()
    watch.look(details("RUNNING"), time.monotonic())
    await asyncio.sleep(0)
    assert not any(one.done() for one in waits)
    watch.look(details("STARTING"), time.monotonic())
    watch.look(details("STARTING"), time.monotonic())
    async with asyncio.timeout(10.0):
        ends = await asyncio.gather(*waits, return_exceptions=True)
    assert [type(end) for end in ends] == [RouterGoneError] * 3


async def test_nobody_begins_to_wait_for_one_that_is_gone(watch):
    """The default candidate answers at once."""
    watch.look(details("STARTING"), time.monotonic())
    with pytest.raises(RouterGoneError, match="no router replica"):
        async with watch.while_there(60.0):
            raise AssertionError("it was asked")


async def test_a_router_that_is_there_and_hangs_is_told_apart(watch):
    """It is counted as hung."""
    watch.look(details("RUNNING"), time.monotonic())
    with pytest.raises(TimeoutError):
        async with watch.while_there(0.01):
            await asyncio.sleep(60.0)


async def test_an_answer_and_an_error_of_the_router_pass(watch):
    """Also those of a router that goes in the same moment."""
    async with watch.while_there(60.0):
        pass
    with pytest.raises(ZeroDivisionError):
        async with watch.while_there(60.0):
            raise ZeroDivisionError
    watch.look(details("STARTING"), time.monotonic())
    assert not watch._waits
