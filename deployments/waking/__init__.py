"""Candidates that queries wanted in vain get replicas."""
