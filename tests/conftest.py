"""For all tests: Ray warns of its own code as it is imported, once and harmlessly."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import ray.serve
    import ray.serve.schema

del ray
