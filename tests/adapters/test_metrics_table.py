"""docs/metrics.md is true: every metric with its type, unit, labels and number of series."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import get_args

from prometheus_client import Metric

import proxy.app  # noqa: F401 - all kinds of errors
from proxy.adapters.prometheus import ACCEPTED, DEVICE, UNAVAILABLE
from proxy.adapters.prometheus_gauges import MAX_DEVICES
from proxy.adapters.prometheus_labels import MAX_ACCOUNTS
from proxy.adapters.prometheus_submission import COPIES
from proxy.domain.errors import Permanent, Temporary
from proxy.domain.facts import CertificateLoaded, Command, Ending, Outcome, Refusal, Unasked
from proxy.domain.survey import Space
from proxy.domain.trouble import TroubleKind
from tests.adapters.test_prometheus import FACTS, LOAD, STATE, observer

PAGE = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()

ROW = re.compile(r"^\| `(\w+)` \| (\w+) \| (.*?) \| (.*?) \| ([\d,]+) \|", re.MULTILINE)

UNITS = ("seconds", "bytes")


@dataclass(frozen=True)
class Row:
    type: str
    unit: str
    labels: frozenset[str]
    series: int


def kinds(error: type[BaseException]) -> set[str]:
    return {error.__name__}.union(*(kinds(child) for child in error.__subclasses__()))


VALUES = {
    "ended": len(get_args(Ending)),
    "command": len(get_args(Command)),
    "kind": len(kinds(Temporary) | kinds(Permanent)),
    "device": MAX_DEVICES,
    "version": 1,
    "python": 1,
    "state": 2,
    "trouble": len(get_args(TroubleKind)),
}


def most(metric: Metric, labels: frozenset[str]) -> int:
    """How many series it can have."""
    if metric.type == "histogram":
        return len(metric.samples)
    results = {
        "syncs": 2,
        "alerts": 2,
        "logins": len({ACCEPTED, DEVICE, UNAVAILABLE, *get_args(Refusal), *get_args(Unasked)}),
        "submissions": len(get_args(Outcome)),
        "sent_copies": len(COPIES),
    }
    # Counters have "other" beside; a device belongs to one account.
    accounts = 1 if "device" in labels else MAX_ACCOUNTS + (metric.type == "counter")
    known = VALUES | {"account": accounts, "result": results.get(metric.name[10:], 0)}
    return prod(known[label] for label in labels)


def rows_of_the_registry() -> dict[str, Row]:
    made = observer(*FACTS, CertificateLoaded("mail.lan", "AB:CD", 1.8e9))
    made.follow(lambda: LOAD, lambda: Space(10, 100))
    made.show([STATE])
    found = {}
    for metric in made.registry.collect():
        if metric.name.startswith("pop3_sync_"):
            labels = frozenset(key for s in metric.samples for key in s.labels) - {"le"}
            unit = next((unit for unit in UNITS if metric.name.endswith(f"_{unit}")), "")
            name = metric.name + "_total" * (metric.type == "counter")
            found[name] = Row(metric.type, unit, labels, most(metric, labels))
    return found


def rows_of_the_page() -> dict[str, Row]:
    found = {}
    for name, type_, unit, labels, series in ROW.findall(PAGE):
        assert name not in found
        named = frozenset(re.findall(r"`(\w+)`", labels))
        found[name] = Row(type_, unit, named, int(series.replace(",", "")))
    return found


def test_the_page_lists_what_the_registry_has() -> None:
    assert rows_of_the_page() == rows_of_the_registry()


def test_the_page_says_how_many_series_there_are_at_most() -> None:
    rows = rows_of_the_registry().values()
    accounts = sum(row.series for row in rows if "account" in row.labels)
    (stated,) = re.findall(r"at most ([\d,]+) series", PAGE)
    assert int(stated.replace(",", "")) == sum(row.series for row in rows)
    (others,) = re.findall(r"(\d+) series of the proxy as a whole", PAGE)
    assert int(others) == sum(row.series for row in rows) - accounts


def test_the_page_says_what_an_account_and_a_device_add() -> None:
    def size(devices: int, *accounts: str) -> int:
        made = observer()
        device = STATE.devices[0]
        made.show(replace(STATE, name=name, devices=(device,) * devices) for name in accounts)
        return sum(len(metric.samples) for metric in made.registry.collect())

    (account,) = re.findall(r", (\d+) for each account\n", PAGE)
    assert int(account) == size(0, "alice", "bob") - size(0, "alice")
    assert "and two for each device" in PAGE
    assert size(1, "alice") - size(0, "alice") == 2


def test_the_page_names_every_value_of_the_small_sets() -> None:
    small = (Ending, Command, Refusal, Unasked, TroubleKind, Outcome)
    values = [value for kind in small for value in get_args(kind)]
    for value in (ACCEPTED, DEVICE, UNAVAILABLE, *COPIES, *values):
        assert f"`{value}`" in PAGE, value


def test_a_metric_of_seconds_or_bytes_ends_in_its_unit() -> None:
    for name, row in rows_of_the_registry().items():
        bare = name.removesuffix("_total")
        assert ("seconds" in bare or "bytes" in bare) == bool(row.unit), name
