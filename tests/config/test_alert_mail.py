"""[alerts]: who is told by e-mail, and by which server."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.config.load import load
from tests.config.reading import HOST, problems

ALERTS = HOST + "[alerts]\n"
SERVER = f'{ALERTS}to = ["ops@example.com"]\nhost = "mail.example.com"\n'


def test_an_address_and_a_server_are_enough(file: Path) -> None:
    file.write_text(SERVER)
    alerts = load(file, {}).alerts
    assert (alerts.host, alerts.port, alerts.tls) == ("mail.example.com", 465, "implicit")
    assert alerts.envelope_sender == "ops@example.com"
    assert alerts.notices


def test_notices_go_off_by_themselves(file: Path) -> None:
    file.write_text(f"{ALERTS}notices = false\n")
    alerts = load(file, {}).alerts
    assert (alerts.notices, alerts.to, alerts.envelope_sender) == (False, (), "")


def test_the_environment_gives_the_password(file: Path) -> None:
    file.write_text(f'{SERVER}username = "proxy"\n')
    alerts = load(file, {"POP3_SYNC_ALERTS__PASSWORD": "secret"}).alerts
    assert alerts.password == "secret"
    assert "secret" not in repr(alerts)


def test_the_password_s_file_is_found_beside_the_configuration(file: Path) -> None:
    (file.parent / "smtp").write_text("secret\n")
    file.write_text(f'{SERVER}username = "proxy"\npassword_file = "smtp"\n')
    assert load(file, {}).alerts.password_file == str(file.parent / "smtp")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (f'{ALERTS}to = ["ops@example.com"]', "alerts.host: needed"),
        (f'{ALERTS}to = ["not an address"]', 'alerts.to: "not an address" is not an e-mail'),
        (f'{ALERTS}to = ["a@b.c\\r\\nBcc: d@e.f"]', "alerts.to: "),
        (f'{ALERTS}sender = "<a@b.c>"', "alerts.sender: "),
        (f'{SERVER}username = "proxy"', "alerts.password_file: needed"),
        (f'{SERVER}username = "p"\npassword = "s"\ntls = "none"', "alerts.tls: the password would"),
        (f"{SERVER}max_per_hour = 0", "alerts.max_per_hour: 0 is not"),
        (f'{SERVER}digest = "hourly"', 'alerts.digest: "hourly" is not one of "off", "daily"'),
    ],
)
def test_what_cannot_work_is_refused(file: Path, text: str, problem: str) -> None:
    (line,) = problems(file, text + "\n")
    assert line.startswith(problem)


def test_only_one_password_may_be_given(file: Path) -> None:
    (file.parent / "smtp").write_text("secret\n")
    text = f'{SERVER}username = "proxy"\npassword = "hush"\npassword_file = "smtp"\n'
    (line,) = problems(file, text)
    assert line == "alerts.password: only one of password and password_file may stand here"
