"""Declared accounts: whose policy they have, and where their passwords come from.

No message may repeat a secret.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from proxy.config.load import load
from proxy.domain.policy import AccountPolicy
from tests.config.reading import HOST, problems, with_passwords

SECRET = "correct horse battery"


def test_a_variable_that_holds_a_password_is_not_unknown(file: Path) -> None:
    file.write_text(HOST + '[[account]]\nname = "a"\npassword_env = "POP3_SYNC_ALICE"\n')
    (account,) = with_passwords(file, {"POP3_SYNC_ALICE": SECRET})
    assert account.credentials.password == SECRET.encode()


def test_an_account_has_the_file_s_policy_with_its_own_keys_over_it(file: Path) -> None:
    file.write_text(
        """
        [upstream]
        host = "pop.example.com"
        port = 1995
        [sync]
        interval = "7m"
        [[account]]
        name = "alice"
        password = "x"
        username = "alice-upstream"
        upstream = { host = "pop.example.net" }
        devices = { enrol = "closed" }
        [[account]]
        name = "bob"
        password = "y"
        """
    )
    settings = load(file, {})
    alice, bob = settings.account
    assert (alice.credentials.username, bob.credentials.username) == ("alice-upstream", "bob")
    assert (alice.policy.upstream.host, alice.policy.upstream.port) == ("pop.example.net", 1995)
    assert (alice.policy.devices.enrol, bob.policy.devices.enrol) == ("closed", "auto")
    assert alice.policy.sync == settings.sync
    assert bob.policy == settings.default_policy() != AccountPolicy()


def test_an_account_may_set_a_key_back_to_its_default(file: Path) -> None:
    file.write_text(
        HOST + 'port = 1995\n[[account]]\nname = "a"\npassword = "x"\nupstream = { port = 995 }\n'
    )
    assert load(file, {}).account[0].policy.upstream.port == 995


@pytest.mark.parametrize(
    "line",
    [
        f'password = "{SECRET}"',
        'password_file = "secrets/alice"',
        'password_env = "ALICE"',
        f"password_command = 'echo \"{SECRET}\"'",
        f"password_command = ['printf', '%s\\r\\nsecond line', '{SECRET}']",
    ],
)
def test_a_password_comes_from_any_of_its_places(file: Path, line: str) -> None:
    secrets = file.parent / "secrets"
    secrets.mkdir()
    (secrets / "alice").write_text(SECRET + "\n")
    file.write_text(f'{HOST}[[account]]\nname = "alice"\n{line}\n')
    (account,) = with_passwords(file, {**os.environ, "ALICE": SECRET})
    assert account.credentials.password == SECRET.encode()
    assert SECRET not in repr(account)


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_password_file_may_end_its_line(file: Path, end: str) -> None:
    (file.parent / "alice").write_bytes(f" {SECRET} {end}".encode())
    file.write_text(HOST + '[[account]]\nname = "alice"\npassword_file = "alice"\n')
    assert with_passwords(file, {})[0].credentials.password == f" {SECRET} ".encode()


@pytest.mark.parametrize(
    ("lines", "key", "text"),
    [
        ("", "password", "needed"),
        (f'password = "{SECRET}"\npassword_env = "A"', "password", "only one of"),
        ("password = 12345678", "password", "not text"),
        (f'password = ["{SECRET}"]', "password", "not text"),
        ('password = ""', "password", "empty"),
        (f'password = "{SECRET}\\n"', "password", "line break"),
        ('password_file = "nowhere"', "password_file", "No such file"),
        ('password_env = "NOWHERE"', "password_env", "no environment variable"),
        (
            f"password_command = ['{sys.executable}', '-c', 'print(\"{SECRET}\"); exit(3)']",
            "password_command",
            "exit code 3",
        ),
        (f"password_command = ['/no/such', '{SECRET}']", "password_command", "cannot be run"),
        (f"password_command = '\"{SECRET}'", "password_command", "quotation mark"),
        (f"password_command = ['{SECRET}', 5]", "password_command", "not a command"),
        ("password_command = []", "password_command", "not a command"),
        (f'passwort = "{SECRET}"\npassword = "x"', "passwort", "unknown key"),
    ],
)
def test_a_password_that_cannot_be_had_is_a_problem_without_the_secret(
    file: Path, lines: str, key: str, text: str
) -> None:
    (problem,) = problems(file, f'{HOST}[[account]]\nname = "alice"\n{lines}\n')
    assert problem.startswith(f"account.alice.{key}: ")
    assert text in problem
    assert SECRET not in problem
    assert "12345678" not in problem


def test_an_account_is_declared_once(file: Path) -> None:
    account = '[[account]]\nname = "a@example.com"\npassword = "x"\n'
    assert problems(file, HOST + 2 * account) == ['account."a@example.com": declared twice']


def test_an_account_without_a_name_is_called_by_its_place(file: Path) -> None:
    text = HOST + '[[account]]\nname = "a"\npassword = "x"\n[[account]]\npassword = "x"\n'
    assert problems(file, text) == ['account."#2".name: needed, and missing']


def test_an_account_name_is_one_line(file: Path) -> None:
    text = HOST + '[[account]]\nname = "a\\r\\nb"\npassword = "x"\n'
    assert problems(file, text) == [
        'account."a\\r\\nb".name: "a\\r\\nb" is not a login name on one line'
    ]


def test_an_account_needs_a_host_from_somewhere(file: Path) -> None:
    (problem,) = problems(file, '[[account]]\nname = "a"\npassword = "x"\n')
    assert problem.startswith("account.a.upstream.host: needed")


def test_without_a_default_host_accounts_work_and_pass_through_does_not(file: Path) -> None:
    file.write_text('[[account]]\nname = "a"\npassword = "x"\nupstream = { host = "pop.x" }\n')
    settings = load(file, {})
    assert settings.account[0].policy.upstream.host == "pop.x"
    assert not settings.accounts.pass_through
