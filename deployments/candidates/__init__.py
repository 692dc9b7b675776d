"""Step 6, the far end: one Serve application per candidate, described by one block of YAML."""

from deployments.candidates.application import build

__all__ = ["build"]
