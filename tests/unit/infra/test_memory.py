"""A process is counted under what it is."""

import pytest

from infra.memory import KINDS, _kind


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        ("VLLM::EngineCore", "candidate: engine core"),
        ("VLLM::Worker_TP0", "candidate: worker"),
        ("ray::ServeReplica:candidate-small:candidate", "candidate: replica"),
        ("ray::ServeReplica:router:ingress", "ingress"),
        ("ray::ServeReplica:router:router", "router"),
        ("ray::ServeController.listen_for_change", "Serve controller"),
        ("ray::ProxyActor", "Serve proxy"),
        ("python -m mlflow server --port 5000", "MLflow"),
        ("python training/retrain.py --promote=auto", "training"),
        ("python -u ray/dashboard/dashboard.py --port=8265", "Ray dashboard and agents"),
        ("ray/core/src/ray/gcs/gcs_server --x", "Ray core"),
        ("ray/core/src/ray/raylet/raylet --x", "Ray core"),
        ("python -m infra.demo", "demo"),
        ("python something_else.py", "other"),
        ("", "other"),
    ],
)
def test_a_command_line_tells_the_kind(command, kind):
    """The first piece that fits counts: a replica of the router is not a candidate's."""
    assert _kind(command) == kind


def test_no_kind_hides_a_later_one():
    """Each piece still finds its own kind although those before it are tried first."""
    assert [piece for piece, kind in KINDS if _kind(piece) != kind] == []
