"""What dashboards, recording and alert rules ask Prometheus and Postgres for, read from the files themselves."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).parents[1]
DASHBOARDS = sorted((ROOT / "deploy/grafana/dashboards").glob("*.json"))
RULE_FILES = [ROOT / "deploy/prometheus/recording.yml", ROOT / "deploy/prometheus/alerts.yml"]

_SELECTOR = re.compile(r"\b(analytics[_:][a-z_0-9:]+|up)\b(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
_GROUPING = re.compile(r"\bby \(([^)]*)\)")


class Selector(NamedTuple):
    """A series that is asked for, and its matchers: label, operator, value."""

    name: str
    matchers: tuple[tuple[str, str, str], ...]


class Asked(NamedTuple):
    """One expression: where it stands, its selectors, and the labels that it groups by."""

    where: str
    selectors: tuple[Selector, ...]
    labels: frozenset[str]


def asked_by(where: str, expression: str) -> Asked:
    selectors = tuple(
        Selector(name, tuple(_MATCHER.findall(matchers))) for name, matchers in _SELECTOR.findall(expression)
    )
    groups = [label.strip() for group in _GROUPING.findall(expression) for label in group.split(",")]
    return Asked(where, selectors, frozenset(groups) - {""})


def dashboards() -> dict[str, dict[str, Any]]:
    return {path.stem: json.loads(path.read_text()) for path in DASHBOARDS}


def rules() -> list[dict[str, Any]]:
    groups = [group for path in RULE_FILES for group in yaml.safe_load(path.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


def recorded() -> set[str]:
    return {rule["record"] for rule in rules() if "record" in rule}


def everything_asked() -> Iterator[Asked]:
    for name, board in dashboards().items():
        for panel in board["panels"]:
            for target in panel["targets"]:
                if "expr" in target:
                    yield asked_by(f"{name}: {panel['title']}", target["expr"])
    for rule in rules():
        yield asked_by(rule.get("alert") or rule["record"], rule["expr"])


def statements() -> Iterator[tuple[str, str]]:
    """(where, SQL) of every panel that asks Postgres."""
    for name, board in dashboards().items():
        for panel in board["panels"]:
            for target in panel["targets"]:
                if "rawSql" in target:
                    yield f"{name}: {panel['title']} {target['refId']}", target["rawSql"]


def missing(exported: Mapping[str, list[Mapping[str, str]]]) -> list[str]:
    """What is asked for and is not there: series, labels, values of labels.

    Args:
        exported: the label sets of every sample, by name.
    """
    found = []
    for one in everything_asked():
        offered: set[str] = set()
        for selector in one.selectors:
            samples = exported.get(selector.name)
            if selector.name in recorded() or selector.name == "up":
                continue
            if samples is None:
                found.append(f"{one.where}: there is no {selector.name}")
                continue
            offered |= {label for sample in samples for label in sample}
            for label, operator, value in selector.matchers:
                values = {sample.get(label) for sample in samples}
                if values == {None}:
                    found.append(f"{one.where}: {selector.name} has no label {label}")
                elif operator == "=" and value not in values:
                    found.append(f"{one.where}: {selector.name} has no {label}={value}")
        if offered and (unknown := one.labels - offered):
            found.append(f"{one.where}: nothing has the labels {sorted(unknown)}")
    return found
