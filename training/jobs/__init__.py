"""Reasons for a retrain, and the Ray jobs that do it."""
