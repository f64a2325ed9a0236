"""The configuration for Prometheus: it is valid, tested, documented, and asks for what there is."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from proxy.adapters.prometheus import PrometheusObserver
from proxy.cli.main import app
from tests.needs import need

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "config" / "prometheus"
RULES = (FOLDER / "alerts.yml").read_text()
TESTS = (FOLDER / "alerts_test.yml").read_text()
RUNBOOK = (ROOT / "docs" / "operating.md").read_text()

ALERTS = re.findall(r"^ +- alert: (\w+)$", RULES, re.MULTILINE)


def rule_of(alert: str) -> str:
    """Its text."""
    _, _, rest = RULES.partition(f"- alert: {alert}\n")
    return rest.partition("- alert: ")[0]


def section_of(alert: str) -> str:
    """What the runbook says."""
    _, _, rest = RUNBOOK.partition(f"\n### {alert}\n")
    return rest.partition("\n### ")[0]


def promtool(*arguments: str) -> str:
    done = subprocess.run(
        [need("promtool"), *arguments],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_configuration_is_valid_and_reads_the_rules() -> None:
    assert f"{len(ALERTS)} rules found" in promtool("check", "config", "prometheus.yml")
    promtool("check", "rules", "--lint-fatal", "alerts.yml")


def test_the_rules_do_what_their_tests_want() -> None:
    promtool("test", "rules", "alerts_test.yml")


def test_every_alert_that_is_wanted_is_there() -> None:
    assert len(ALERTS) == len(set(ALERTS)) == RULES.count("- alert:")
    wanted = {
        "UpstreamLoginRefused",
        "NoSuccessfulSync",
        "DeviceNotSeen",
        "BacklogGrowing",
        "StoreNearlyFull",
        "CertificateExpiring",
        "SyncErrorRate",
    }
    assert wanted <= set(ALERTS)


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_is_tested_firing_and_not_firing(alert: str) -> None:
    expected = re.findall(rf"alertname: {alert}\n +exp_alerts:(.*)\n", TESTS)
    assert "" in expected
    assert " []" in expected


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_says_what_it_is_and_where_to_read_on(alert: str) -> None:
    rule = rule_of(alert)
    assert re.search(r"severity: (critical|warning)\n", rule)
    assert re.search(r"summary: \S", rule)
    assert re.search(r"description: \S", rule)
    assert f"runbook: docs/operating.md#{alert.lower()}\n" in rule


@pytest.mark.parametrize("alert", ALERTS)
def test_the_runbook_says_what_to_look_at(alert: str) -> None:
    section = section_of(alert)
    assert "- Look: " in section
    assert "`" in section


def test_the_runbook_has_no_alert_that_there_is_not() -> None:
    alerts = RUNBOOK.partition("## Alerts\n")[2].partition("\n## ")[0]
    assert re.findall(r"^### (\w+)$", alerts, re.MULTILINE) == ALERTS


def metrics_of_the_registry() -> set[str]:
    """As they are called in queries."""
    suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}
    return {
        metric.name + suffix
        for metric in PrometheusObserver(None).registry.collect()
        for suffix in suffixes.get(metric.type, [""])
    }


@pytest.mark.parametrize("text", [RULES, TESTS, RUNBOOK], ids=["rules", "tests", "runbook"])
def test_every_metric_that_is_asked_for_exists(text: str) -> None:
    named = set(re.findall(r"\bpop3_sync_\w+", text))
    assert named
    assert named <= metrics_of_the_registry()


def test_every_command_of_the_runbook_exists() -> None:
    root = get_command(app)
    assert isinstance(root, TyperGroup)
    used = re.findall(r"`pop3-sync-proxy ([a-z]+)(?: ([a-z-]+))?", RUNBOOK)
    assert len(used) > 10
    for name, rest in used:
        command = root.commands.get(name)
        assert command is not None, name
        if isinstance(command, TyperGroup):
            assert rest in command.commands, f"{name} {rest}"
