"""The units as systemd's own tools see them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.needs import need

UNITS = Path(__file__).parents[2] / "config" / "systemd"

SERVICE = "pop3-sync-proxy.service"

MOST_EXPOSED = "11"
"""In tenths. What is left is what a mail proxy is for: the network, and Unix sockets."""


@pytest.fixture
def units(tmp_path: Path) -> list[Path]:
    """Copies that start a program which is there."""
    copies = []
    for unit in sorted(UNITS.iterdir()):
        copy = tmp_path / unit.name
        program = str(Path(sys.executable).with_name("pop3-sync-proxy"))
        copy.write_text(
            unit.read_text().replace("/opt/pop3-sync-proxy/bin/pop3-sync-proxy", program)
        )
        copies.append(copy)
    return copies


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [need("systemd-analyze"), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_systemd_understands_every_line(units: list[Path]) -> None:
    done = analyze("verify", "--man=no", *units)
    # It also looks at units of the machine; only what it says of ours counts.
    ours = [line for line in done.stderr.splitlines() if "pop3-sync-proxy" in line]
    assert ours == []
    assert done.returncode == 0, done.stderr


def test_the_service_waits_for_a_right_clock_where_something_sets_one() -> None:
    lines = (UNITS / SERVICE).read_text().splitlines()
    for key in ("Wants=", "After="):
        named = [line.removeprefix(key).split() for line in lines if line.startswith(key)]
        assert any("time-sync.target" in targets for targets in named)


def test_the_service_is_exposed_as_little_as_a_mail_proxy_can_be(units: list[Path]) -> None:
    (service,) = (unit for unit in units if unit.name == SERVICE)
    done = analyze("security", "--offline=true", f"--threshold={MOST_EXPOSED}", service)
    assert done.returncode == 0, done.stdout


def test_the_configuration_gets_the_sockets_under_the_names_in_the_comments() -> None:
    for unit in UNITS.glob("*.socket"):
        text = unit.read_text()
        (name,) = re.findall(r"^FileDescriptorName=(.+)", text, re.MULTILINE)
        assert f'"systemd:{name}"' in text
