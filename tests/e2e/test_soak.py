"""Five minutes with one fault each: users notice none of them."""

from infra.evidence.serving import soak

MINUTES = 5.0
MAX_CONTROLLER_MB = 500
"""Serve's controller weighed 247 MB, and 711 once an engine's death had it import vLLM."""


def test_users_notice_no_fault(system):
    """Engine, router, replica and controller are killed in turn, and clients leave.

    Every other request is answered, every replica comes back, and nothing is left behind.
    """
    result = soak.run(MINUTES, system.config)
    assert result["num_failed"] == 0, result["errors"]
    assert result["num_requests"] > 30 * MINUTES * soak.REQUESTS_PER_S
    assert len(result["acts"]) == MINUTES
    assert not result["spared"]
    assert result["settled_s"] is not None
    assert {"ingress", "router", "candidate engine"} <= set(result["slopes"])
    assert result["slopes"]["Serve controller"]["last_rss_mb"] < MAX_CONTROLLER_MB
