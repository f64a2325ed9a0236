"""Login names: ACCOUNT or ACCOUNT+DEVICE."""

from __future__ import annotations

import pytest

from proxy.domain.login_name import candidates


@pytest.mark.parametrize(
    ("login", "expected"),
    [
        ("alice", [("alice", None)]),
        ("alice+laptop", [("alice+laptop", None), ("alice", "laptop")]),
        ("a+b+c", [("a+b+c", None), ("a+b", "c")]),
        ("alice+tag@example.com", [("alice+tag@example.com", None)]),
        ("alice+", [("alice+", None)]),
        ("+laptop", [("+laptop", None)]),
        ("alice+" + "x" * 33, [("alice+" + "x" * 33, None)]),
        ("alice+a b", [("alice+a b", None)]),
    ],
)
def test_the_last_separator_splits_where_a_device_name_follows(
    login: str, expected: list[tuple[str, str | None]]
) -> None:
    assert candidates(login, "+") == expected


def test_another_separator() -> None:
    assert candidates("alice+tag#pc", "#") == [("alice+tag#pc", None), ("alice+tag", "pc")]
