"""For all tests: Ray and Serve warn of their own code as they are imported, once and harmlessly."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import ray.serve
    import ray.serve.schema

del ray
