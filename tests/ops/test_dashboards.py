"""Grafana's dashboards: well made, and every query of theirs answered by a real Prometheus."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from typing import Any

import pytest

from tests.ops.dashboards import FOLDER, NAMES, OWN_VARIABLES, Dashboard, load

DASHBOARDS = load()

each_dashboard = pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda each: each.name)


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return (
        one["x"] < other["x"] + other["w"]
        and other["x"] < one["x"] + one["w"]
        and one["y"] < other["y"] + other["h"]
        and other["y"] < one["y"] + one["h"]
    )


def unit(panel: dict[str, Any]) -> str | None:
    found: str | None = panel["fieldConfig"]["defaults"].get("unit")
    return found


def test_every_file_is_a_dashboard_known_here() -> None:
    assert {file.name for file in FOLDER.iterdir()} == {f"{name}.json" for name in NAMES}


def test_uids_and_titles_are_unique_and_links_lead_somewhere() -> None:
    uids = {dashboard.content["uid"] for dashboard in DASHBOARDS}
    assert len(uids) == len({each.content["title"] for each in DASHBOARDS}) == len(DASHBOARDS)
    for dashboard in DASHBOARDS:
        assert dashboard.linked() <= uids
        for link in dashboard.content["links"]:
            assert all(set(link["tags"]) <= set(each.content["tags"]) for each in DASHBOARDS)


@each_dashboard
def test_a_file_holds_nothing_that_changes_at_each_export(dashboard: Dashboard) -> None:
    assert "id" not in dashboard.content
    assert dashboard.content["schemaVersion"] >= 39
    assert not [variable["name"] for variable in dashboard.variables() if variable["options"]]


@each_dashboard
def test_panels_have_places_of_their_own(dashboard: Dashboard) -> None:
    boxes = dashboard.boxes()
    assert [box["id"] for box in boxes] == list(range(1, len(boxes) + 1))
    for one, other in itertools.combinations(boxes, 2):
        assert not overlap(one["gridPos"], other["gridPos"]), (one["title"], other["title"])
    for box in boxes:
        place = box["gridPos"]
        assert place["x"] >= 0
        assert place["x"] + place["w"] <= 24, box["title"]


@each_dashboard
def test_every_panel_says_what_it_shows(dashboard: Dashboard) -> None:
    for panel in dashboard.panels():
        where = panel["title"]
        assert where
        assert len(panel["description"]) > 60, where
        assert unit(panel), where
        assert panel["targets"], where
        refs = Counter(target["refId"] for target in panel["targets"])
        assert max(refs.values()) == 1, where
        for target in panel["targets"]:
            assert target["instant"] is not target["range"], where


@each_dashboard
def test_a_table_names_its_columns(dashboard: Dashboard) -> None:
    for panel in dashboard.panels():
        if panel["type"] != "table":
            continue
        columns = panel["transformations"][-1]["options"]
        refs = [target["refId"] for target in panel["targets"]]
        values = {f"Value #{ref}" for ref in refs} if len(refs) > 1 else {"Value"}
        named = set(columns["renameByName"])
        assert values <= named | set(columns["excludeByName"]), panel["title"]
        assert not {name for name in named if name.startswith("Value")} - values, panel["title"]
        shown = set(columns["renameByName"].values())
        for override in panel["fieldConfig"]["overrides"]:
            assert override["matcher"]["options"] in shown, panel["title"]


@each_dashboard
def test_every_variable_that_is_used_is_declared(dashboard: Dashboard) -> None:
    declared = {variable["name"] for variable in dashboard.variables()}
    assert dashboard.used_variables() - OWN_VARIABLES <= declared
    assert declared <= dashboard.used_variables()


@each_dashboard
def test_every_query_asks_the_chosen_source_for_the_chosen_proxies(dashboard: Dashboard) -> None:
    sources = {
        json.dumps(target["datasource"], sort_keys=True)
        for panel in dashboard.panels()
        for target in [*panel["targets"], panel]
    }
    assert sources == {'{"type": "prometheus", "uid": "${datasource}"}'}
    for query in dashboard.queries():
        assert query.selectors(), query.where
        for metric, matchers in query.selectors():
            assert 'job=~"$job",instance=~"$instance"' in matchers, (query.where, metric)
