"""Grafana's dashboards as data: panels, queries, variables."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "grafana" / "dashboards"
NAMES = ("overview", "accounts", "upstream", "performance")

OWN_VARIABLES = {"__rate_interval", "__range", "__all", "__url_time_range", "__value", "__field"}
"""Grafana's own, which no dashboard declares; the last three stand in links."""

FALLBACK = " or vector(0)"
"""What makes a number of nothing where nothing is good news; it would hide a misspelt name."""

_VARIABLE = re.compile(r"\$(?:\{(\w+)[^}]*\}|(\w+))")
_SELECTOR = re.compile(r"\b([a-zA-Z_:][a-zA-Z0-9_:]*)\{([^}]*)\}")
_LABEL_VALUES = re.compile(r"label_values\((?:(?P<selector>.+), )?(?P<label>\w+)\)")


@dataclass(frozen=True, slots=True)
class Query:
    where: str
    expr: str

    def filled(self, values: Mapping[str, str]) -> str:
        """With its variables replaced, as Grafana does before it asks Prometheus."""
        return fill(self.expr, values)

    def selectors(self) -> list[tuple[str, str]]:
        """Names of metrics, each with what stands in its braces."""
        return _SELECTOR.findall(self.expr)


@dataclass(frozen=True, slots=True)
class Dashboard:
    name: str
    content: dict[str, Any]

    def panels(self) -> list[dict[str, Any]]:
        """Without rows."""
        return [panel for panel in self.boxes() if panel["type"] != "row"]

    def boxes(self) -> list[dict[str, Any]]:
        """Panels and rows, also what is inside a row that is folded away."""
        top = self.content["panels"]
        return [*top, *(inner for box in top for inner in box.get("panels", []))]

    def queries(self) -> Iterator[Query]:
        """Of all panels and all annotations."""
        for panel in self.panels():
            for target in panel["targets"]:
                yield Query(f"{self.name}: {panel['title']} ({target['refId']})", target["expr"])
        for annotation in self.content["annotations"]["list"]:
            if "target" in annotation:
                where = f"{self.name}: annotation {annotation['name']}"
                yield Query(where, annotation["target"]["expr"])

    def variables(self) -> list[dict[str, Any]]:
        variables: list[dict[str, Any]] = self.content["templating"]["list"]
        return variables

    def choices(self) -> Iterator[tuple[str, str, str]]:
        """Variables that Prometheus is asked for: name, label, and selector of series ("": all)."""
        for variable in self.variables():
            if variable["type"] == "query":
                asked = _LABEL_VALUES.fullmatch(variable["query"]["query"])
                assert asked, f"{self.name}: {variable['query']['query']}"
                yield variable["name"], asked["label"], asked["selector"] or ""

    def used_variables(self) -> set[str]:
        found = _VARIABLE.findall(json.dumps(self.content))
        return {braced or bare for braced, bare in found}

    def linked(self) -> set[str]:
        """The uids of dashboards that links of panels lead to."""
        return set(re.findall(r'"/d/([\w-]+)', json.dumps(self.content)))


def fill(text: str, values: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda found: values[found[1] or found[2]], text)


def load() -> list[Dashboard]:
    return [Dashboard(name, json.loads((FOLDER / f"{name}.json").read_text())) for name in NAMES]
