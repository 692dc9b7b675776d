"""Every candidate dies under one request, which is answered by the first that runs again."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from told_system import running

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def system():
    """Run a system whose requests have time to wait for a start."""
    with running(deadline_s=60.0, card={"start_s": 20.0}) as one:
        one.settle()
        yield one


def test_a_request_that_loses_all_waits_for_a_start(system):
    """Its receipt tells of those that died and of the one that answered."""
    num_before = {name: len(system.noted(name, "begin")) for name in "abc"}
    system.tell(a="die", b="die", c="die")
    with ThreadPoolExecutor(1) as users:
        asked = users.submit(system.ask)
        for name in "abc":
            system.await_noted(name, "begin", than=num_before[name], within_s=20.0)
        system.tell()
        response = asked.result()
    assert response.status_code == 200
    headers = response.headers
    receipt = system.client.get(f"/v1/decisions/{headers['x-pointsman-decision-id']}").json()
    *died, answered = receipt["attempts"]
    assert len(died) >= 2  # a handle that has not heard of a death yet waits for the next replica
    assert all(attempt["error"] for attempt in died)
    assert not answered["error"]
    assert receipt["answered_by"] == answered["candidate_id"] == headers["x-pointsman-candidate"]
