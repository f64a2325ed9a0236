"""The compose file: valid, pointing at what is there, and each service with little to lose."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.config import environment
from tests.needs import cannot, need

FOLDER = Path(__file__).parents[2] / "config" / "docker"
FILE = FOLDER / "compose.yaml"

SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(FILE.read_text())["services"]

SUITE = "trixie"
"""The first Debian that has the present docker-compose."""

LOCAL = ("pop3-sync-proxy",)
"""Images that are built here."""


@pytest.fixture(scope="module")
def compose(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Docker's own compose program, which needs no engine to read a file."""
    need("mmdebstrap")
    folder = tmp_path_factory.mktemp("compose")
    done = subprocess.run(
        [
            "mmdebstrap",
            "--variant=extract",
            "--include=docker-compose",
            SUITE,
            str(folder / "root"),
        ],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    if done.returncode:
        cannot(f"there is no docker-compose to be had: {done.stderr[-1000:]}")
    return folder / "root/usr/libexec/docker/cli-plugins/docker-compose"


def test_compose_takes_the_file_with_the_example_s_variables(compose: Path) -> None:
    example = (FOLDER / "example.env").read_text()
    variables = dict(re.findall(r"^(\w+)=(.*)$", example, re.MULTILINE))
    assert variables["GRAFANA_PASSWORD"] == "", "a password that everybody knows"
    done = subprocess.run(
        [compose, "--file", FILE, "config", "--format=json"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **variables, "GRAFANA_PASSWORD": "chosen"},
    )
    assert done.returncode == 0, done.stderr
    services = json.loads(done.stdout)["services"]
    assert services.keys() == SERVICES.keys()
    assert services["proxy"]["environment"]["POP3_SYNC_UPSTREAM__HOST"] == "pop.example.com"
    assert services["proxy"]["user"] == "10110:10110"


def test_compose_asks_for_what_nobody_else_can_know(compose: Path) -> None:
    done = subprocess.run(
        [compose, "--file", FILE, "config", "--quiet"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "POP3_SYNC_UPSTREAM__HOST" in done.stderr or "GRAFANA_PASSWORD" in done.stderr


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_can_write_and_do_as_little_as_possible(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not re.match(r"(0|root)\b", service["user"])
    assert service["mem_limit"]
    assert service["healthcheck"]
    image, _, tag = service["image"].partition(":")
    assert (image in LOCAL) == ("build" in service)
    assert tag not in ("", "latest")


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_mounts_is_there_and_cannot_be_written_to(name: str) -> None:
    for volume in SERVICES[name]["volumes"]:
        source, _, rest = volume.partition(":")
        if source.startswith("."):
            assert (FOLDER / source).resolve().exists(), volume
            assert rest.endswith(":ro"), volume


def test_nobody_but_mail_programs_gets_in_from_outside() -> None:
    published = {name: service.get("ports", []) for name, service in SERVICES.items()}
    assert published == {
        "proxy": ["995:1995", "110:1110"],
        "prometheus": [],
        "grafana": ["127.0.0.1:3000:3000"],
    }


def test_the_proxy_is_told_only_what_it_knows() -> None:
    assert SERVICES["proxy"]["environment"].keys() <= environment.variables().keys()


def test_prometheus_asks_the_proxy_by_its_name() -> None:
    scraped = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    targets = [
        target
        for job in scraped["scrape_configs"]
        for group in job["static_configs"]
        for target in group["targets"]
    ]
    assert "proxy:9110" in targets
    assert SERVICES["proxy"]["environment"]["POP3_SYNC_HTTP__HOSTS"] == "proxy"
