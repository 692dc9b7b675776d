"""Lay out the panels of `panels.yaml` as the dashboard that Grafana imports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parent
COLUMNS = 3
WIDTH = 24 // COLUMNS
"""Of a panel; Grafana's grid has 24 columns."""

HEIGHT = 8
SCHEMA_VERSION = 39
"""Of Grafana 11; later ones migrate it on import."""


def rows() -> dict[str, list[dict[str, Any]]]:
    """Return the panels by row: each a title, a unit and PromQL by legend."""
    told: dict[str, list[dict[str, Any]]] = yaml.safe_load((FOLDER / "panels.yaml").read_text())
    return told


def expressions() -> list[str]:
    """Return the PromQL of every panel."""
    return [expr for row in rows().values() for one in row for expr in one["series"].values()]


def text() -> str:
    """Return the dashboard in Grafana's JSON model."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, members in rows().items():
        place = {"h": 1, "w": 24, "x": 0, "y": top}
        panels.append({"type": "row", "title": title, "collapsed": False, "gridPos": place})
        for at, one in enumerate(members):
            down, right = divmod(at, COLUMNS)
            place = {"h": HEIGHT, "w": WIDTH, "x": WIDTH * right, "y": top + 1 + HEIGHT * down}
            panels.append(_panel(one, place))
        top += 1 + HEIGHT * -(-len(members) // COLUMNS)
    model = {
        "title": "Pointsman",
        "uid": "pointsman",
        "schemaVersion": SCHEMA_VERSION,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {
            "list": [{"name": "datasource", "type": "datasource", "query": "prometheus"}]
        },
        "panels": [{"id": number, **panel} for number, panel in enumerate(panels, start=1)],
    }
    return json.dumps(model, indent=1) + "\n"


def _panel(one: dict[str, Any], place: dict[str, int]) -> dict[str, Any]:
    return {
        "type": "timeseries",
        "title": one["title"],
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": one["unit"]}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + at), "expr": expr, "legendFormat": legend}
            for at, (legend, expr) in enumerate(one["series"].items())
        ],
    }
