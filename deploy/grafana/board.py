"""What a dashboard is made of, and its JSON as Grafana reads it.

Belongs here: shapes, the layout, what all panels have in common. Does not belong here: any panel (`boards`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

PROMETHEUS: Json = {"type": "prometheus", "uid": "prometheus"}
POSTGRES: Json = {"type": "grafana-postgresql-datasource", "uid": "postgres"}

_WIDTH, _HEIGHT, _COLUMNS = 8, 8, 24
_SCHEMA_VERSION = 41


@dataclass(frozen=True)
class Query:
    """One expression of a panel in PromQL, and what its lines are called."""

    expr: str
    legend: str

    def json(self, ref: str) -> Json:
        """The target."""
        return {"datasource": PROMETHEUS, "expr": self.expr, "legendFormat": self.legend, "refId": ref}


@dataclass(frozen=True)
class Sql:
    """One statement of a panel: columns `time`, `value`, and `metric`, the name of the line."""

    statement: str

    def json(self, ref: str) -> Json:
        """The target."""
        return {
            "datasource": POSTGRES,
            "editorMode": "code",
            "format": "time_series",
            "rawQuery": True,
            "rawSql": self.statement,
            "refId": ref,
        }


@dataclass(frozen=True)
class Panel:
    """One chart.

    Attributes:
        title: a noun.
        unit: of Grafana's units.
        description: what it means, and what is normal.
        queries: at least one.
        limit: above it the line is red; None where no value is wrong by itself.
        is_stacked: whether lines add up to something.
    """

    title: str
    unit: str
    description: str
    queries: Sequence[Query | Sql]
    limit: float | None = None
    is_stacked: bool = False

    def json(self, number: int) -> Json:
        """The panel at its place: three to a row."""
        place = (number - 1) * _WIDTH
        custom: Json = {
            "fillOpacity": 10,
            "showPoints": "never",
            "stacking": {"mode": "normal" if self.is_stacked else "none"},
        }
        defaults: Json = {"unit": self.unit, "custom": custom}
        if self.limit is not None:
            custom["thresholdsStyle"] = {"mode": "line"}
            steps = [{"color": "green", "value": None}, {"color": "red", "value": self.limit}]
            defaults["thresholds"] = {"mode": "absolute", "steps": steps}
        is_sql = isinstance(self.queries[0], Sql)
        return {
            "id": number,
            "title": self.title,
            "description": self.description,
            "type": "timeseries",
            "datasource": POSTGRES if is_sql else PROMETHEUS,
            "gridPos": {
                "h": _HEIGHT,
                "w": _WIDTH,
                "x": place % _COLUMNS,
                "y": place // _COLUMNS * _HEIGHT,
            },
            "fieldConfig": {"defaults": defaults, "overrides": []},
            "options": {
                "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
                "tooltip": {"mode": "multi", "sort": "desc"},
            },
            "targets": [query.json(chr(ord("A") + place)) for place, query in enumerate(self.queries)],
        }


@dataclass(frozen=True)
class Board:
    """One dashboard; `uid` is part of its address and stays."""

    uid: str
    title: str
    description: str
    panels: Sequence[Panel]
    variables: Sequence[Json] = ()

    def json(self) -> Json:
        """The whole file."""
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": ["b25-analytics"],
            "timezone": "utc",
            "schemaVersion": _SCHEMA_VERSION,
            "version": 1,
            "refresh": "10s",
            "time": {"from": "now-1h", "to": "now"},
            "editable": False,
            "graphTooltip": 1,
            "links": [
                {
                    "type": "dashboards",
                    "title": "B25 Analytics",
                    "tags": ["b25-analytics"],
                    "asDropdown": False,
                    "includeVars": False,
                    "keepTime": True,
                }
            ],
            "panels": [panel.json(number) for number, panel in enumerate(self.panels, 1)],
            "templating": {"list": list(self.variables)},
            "annotations": {"list": []},
        }
