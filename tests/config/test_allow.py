"""`accounts.allow`: what is taken, and what is said of a pattern that matches nobody."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.app import directory_of
from proxy.config.load import load
from tests.config.reading import HOST, problems


def test_declared_accounts_may_always_come_and_others_by_the_list(file: Path) -> None:
    file.write_text(
        HOST
        + '[accounts]\nallow = ["*@example.com", "Bob"]\n'
        + '[[account]]\nname = "carol@elsewhere.test"\npassword = "x"\n'
    )
    directory = directory_of(load(file, {}))
    for name in ("alice@EXAMPLE.com", "bob", "carol@elsewhere.test"):
        assert directory.allows(name)
        assert directory.uses(name)
    assert not directory.allows("dave@elsewhere.test")


def test_an_empty_list_lets_everybody_come(file: Path) -> None:
    file.write_text(HOST)
    assert directory_of(load(file, {})).allows("anybody")


def test_the_environment_may_say_it(file: Path) -> None:
    file.write_text(HOST)
    settings = load(file, {"POP3_SYNC_ACCOUNTS__ALLOW": "alice@example.com, *@example.org"})
    assert settings.accounts.allow == ("alice@example.com", "*@example.org")


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("", '"" matches no account: is no name'),
        ("*", '"*" matches no account: "*" stands for'),
        ("*@", '"*@" matches no account: names no domain'),
        ("al*@example.com", "stands for all that is before"),
        ("*@example.com@", "no domain is called"),
        ("alice@example.com+laptop", '"laptop" is the name of a device there; write "alice@'),
    ],
)
def test_a_pattern_that_matches_no_account_is_a_problem_that_says_so(
    file: Path, pattern: str, said: str
) -> None:
    (problem,) = problems(file, f'{HOST}[accounts]\nallow = ["bob", "{pattern}"]\n')
    assert problem.startswith("accounts.allow: ")
    assert "matches no account" in problem
    assert said in problem


def test_a_plus_that_names_no_device_is_part_of_the_name(file: Path) -> None:
    file.write_text(HOST + '[accounts]\nallow = ["alice+lists@example.com"]\n')
    assert directory_of(load(file, {})).allows("Alice+Lists@example.com")
