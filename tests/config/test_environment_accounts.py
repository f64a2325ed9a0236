"""Accounts declared by the environment alone, or beside those of the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.config.load import load
from proxy.domain.errors import BadConfig
from tests.config.reading import HOST, problems, with_passwords

ALICE = {
    "POP3_SYNC_ACCOUNT__1__NAME": "alice",
    "POP3_SYNC_ACCOUNT__1__PASSWORD": "secret",
    "POP3_SYNC_ACCOUNT__1__UPSTREAM__HOST": "pop.example.net",
    "POP3_SYNC_ACCOUNT__1__UPSTREAM__PORT": "1995",
    "POP3_SYNC_ACCOUNT__1__SYNC__INTERVAL": "7m",
}


def test_no_file_is_needed_for_accounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bob").write_text("bob's secret\n")
    bob = {"NAME": "bob", "PASSWORD_FILE": "bob", "PASSWORD_STORED": "false"}
    more = {f"POP3_SYNC_ACCOUNT__27__{key}": value for key, value in bob.items()}
    more["POP3_SYNC_UPSTREAM__HOST"] = "pop.example.com"
    first, second = with_passwords(None, {**ALICE, **more})
    assert first.credentials.password == b"secret"
    assert first.policy.upstream.host == "pop.example.net"
    assert first.policy.upstream.port == 1995
    assert first.policy.sync.interval == 420.0
    assert second.credentials.password == b"bob's secret"
    assert second.policy.upstream.host == "pop.example.com"


def test_the_file_s_accounts_stay_as_they_are(file: Path) -> None:
    file.write_text(HOST + '[[account]]\nname = "carol"\npassword = "x"\n')
    assert [account.name for account in load(file, ALICE).account] == ["carol", "alice"]


def test_an_account_s_password_may_be_in_a_variable_of_any_name(file: Path) -> None:
    file.write_text(HOST)
    environ = {"POP3_SYNC_ACCOUNT__1__NAME": "alice", "POP3_SYNC_ALICE": "secret"}
    environ["POP3_SYNC_ACCOUNT__1__PASSWORD_ENV"] = "POP3_SYNC_ALICE"
    (account,) = with_passwords(file, environ)
    assert account.credentials.password == b"secret"


def test_what_is_wrong_is_reported_by_the_variable_s_name_and_without_its_secret(
    file: Path,
) -> None:
    wrong = {"UPSTREAM__PORT": "99999999", "SYNC__INTERVALL": "7m", "PASSWORD": "sec\nret"}
    environ = ALICE | {f"POP3_SYNC_ACCOUNT__1__{key}": value for key, value in wrong.items()}
    found = problems(file, HOST, environ)
    assert found[0] == (
        "POP3_SYNC_ACCOUNT__1__SYNC__INTERVALL: unknown variable; "
        "did you mean POP3_SYNC_ACCOUNT__1__SYNC__INTERVAL?"
    )
    starts = {line.partition(":")[0].rpartition("__")[2] for line in found}
    assert starts == {"INTERVALL", "PORT", "PASSWORD"}
    assert "ret" not in " ".join(found).replace("interval", "").replace("retention", "")


def test_an_account_in_a_file_that_is_no_list_is_the_file_s_problem(file: Path) -> None:
    (problem,) = problems(file, "account = 5\n" + HOST, ALICE)
    assert "not a list of tables" in problem


def test_an_account_without_a_name_is_a_problem() -> None:
    with pytest.raises(BadConfig, match="name: needed, and missing"):
        load(None, {"POP3_SYNC_ACCOUNT__1__PASSWORD": "x"})
