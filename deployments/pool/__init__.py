"""Who could answer now: replicas, load, starts and failures, off the request path."""
