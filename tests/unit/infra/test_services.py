"""What the local services are started with is there."""

import os
import subprocess
import sys
from pathlib import Path

from infra import services


def test_haproxy_starts_through_its_wrapper():
    """Ray is told of an executable, which finds the binary that came with Ray."""
    environment = services.environment()
    wrapper = Path(environment["RAY_SERVE_HAPROXY_BINARY_PATH"])
    assert os.access(wrapper, os.X_OK)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    told = subprocess.run(
        [wrapper, "-v"],
        env=environment | {"PATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.startswith("HAProxy version")
