"""Copy infra/serve/gpu.yaml into the RayService: ``python -m infra.cluster.serve_config``.

KubeRay takes a Serve config as one text, so that the manifest needs a copy; a test holds the two
together. Only what differs on a cluster is changed: the log lies in a bucket, its spool and what
replicas share on the volume, and the dashboard is reached through its service.
"""

from __future__ import annotations

import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
SERVE_CONFIG = FOLDER.parent / "serve" / "gpu.yaml"
MANIFEST = FOLDER / "rayservice.yaml"
BEGIN = "  serveConfigV2: |\n"
END = "  rayClusterConfig:\n"

CHANGES = {
    "    outcome_log: /var/lib/pointsman/outcomes\n": """\
    outcome_log: s3://pointsman/outcomes
    outcome_log_spool: /var/lib/pointsman/spool
    explore_state: /var/lib/pointsman/exploration
""",
    # Replicas run on other nodes than the dashboard.
    "    serve_api: http://127.0.0.1:8265\n": "    serve_api: http://pointsman-head-svc:8265\n",
}
"""Lines of gpu.yaml, and what stands for them."""


def cluster_config(text: str) -> str:
    """Return a Serve config as it is on the cluster, without the comments at its head.

    Raises:
        ValueError: If a line that is to be changed is not there.
    """
    for line, changed in CHANGES.items():
        if text.count(line) != 1:
            raise ValueError(f"{SERVE_CONFIG} must have the line {line.strip()!r} once")
        text = text.replace(line, changed)
    lines = text.splitlines(keepends=True)
    first = next(i for i, line in enumerate(lines) if line.strip() and not line.startswith("#"))
    return "".join(lines[first:])


def with_config(manifest: str, config: str) -> str:
    """Return the manifest with another Serve config."""
    head, _, rest = manifest.partition(BEGIN)
    _, _, tail = rest.partition(END)
    block = "".join(
        f"    {line}" if line.strip() else line for line in config.splitlines(keepends=True)
    )
    return f"{head}{BEGIN}{block}{END}{tail}"


def main() -> int:
    """Write the manifest."""
    MANIFEST.write_text(
        with_config(MANIFEST.read_text(), cluster_config(SERVE_CONFIG.read_text()))
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
