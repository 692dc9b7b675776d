"""Manifests for KubeRay: the serving cluster, and three ways to retrain on a schedule."""
