"""Who may come at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.domain.allowed import Allowed, check_pattern

LOCAL = st.text("abcXYZ019.+_-", min_size=1, max_size=12)
HOST = st.from_regex(r"[a-zA-Z0-9]{1,8}\.(example|TEST)", fullmatch=True)


def test_without_a_pattern_everybody_may_come() -> None:
    assert "alice@example.com" in Allowed()
    assert "alice" in Allowed([])


@given(LOCAL, HOST, HOST)
def test_a_domain_stands_for_its_own_names_and_no_other(local: str, host: str, other: str) -> None:
    allowed = Allowed([f"*@{host}"])
    assert f"{local}@{host}" in allowed
    assert f" {local.upper()}@{host.swapcase()} " in allowed
    assert (f"{local}@{other}" in allowed) is (other.lower() == host.lower())
    for near in (f"{local}@sub.{host}", f"{local}@{host}.test", local, host, f"{local}{host}"):
        assert near not in allowed


@given(LOCAL, HOST, LOCAL)
def test_a_name_stands_for_itself_alone(local: str, host: str, other: str) -> None:
    allowed = Allowed([f"{local}@{host}", "bob"])
    assert f"{local.swapcase()}@{host.swapcase()}" in allowed
    assert "BOB" in allowed
    assert "bob@example.com" not in allowed
    assert (f"{other}@{host}" in allowed) is (other.lower() == local.lower())


@given(st.lists(st.text(max_size=20), max_size=5), st.text(max_size=20))
def test_a_pattern_that_is_taken_can_be_matched(patterns: list[str], name: str) -> None:
    taken = []
    for pattern in patterns:
        try:
            check_pattern(pattern)
        except ValueError:
            with pytest.raises(ValueError, match=r"\w"):
                Allowed([pattern])
        else:
            taken.append(pattern)
            example = pattern.strip().replace("*", "somebody", 1)
            assert example in Allowed([pattern])
            assert example in Allowed(taken)
    assert (name in Allowed(taken)) is (not taken or any(name in Allowed([one]) for one in taken))


@pytest.mark.parametrize(
    "pattern",
    ["", " ", "*", "*@", "al*@example.com", "*@*.example.com", "*@a@b", "*@a b", "**@a", "a\nb"],
)
def test_what_no_name_can_match_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        check_pattern(pattern)
