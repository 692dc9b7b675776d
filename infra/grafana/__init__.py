"""The dashboard for Grafana, made from a list of its panels."""
