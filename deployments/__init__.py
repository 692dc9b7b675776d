"""Serving: the ingress, the router deployment and the candidates, as thin shells on Ray Serve."""
