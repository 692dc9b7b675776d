"""Keep Ray out: code under these tests is pure, or takes what it talks to as an argument."""

from __future__ import annotations

import warnings

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Ray and Serve warn of their own code as they are imported
    import ray
    import ray.serve


@pytest.fixture(autouse=True)
def _ray_may_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_options: object) -> None:
        raise AssertionError("a test that starts Ray belongs in tests/integration")

    monkeypatch.setattr(ray, "init", refuse)
