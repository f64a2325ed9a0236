"""What `verify` ends with."""

from __future__ import annotations

from typing import Any

import pytest
from typer.testing import CliRunner

from proxy.cli import upkeep
from proxy.cli.main import app

ADOPTED = {"adopted": 2, "known": 0, "untold": 0, "damaged": [], "unreadable": [], "failures": []}


@pytest.mark.parametrize(
    ("found", "code"),
    [
        ({}, 0),
        ({"found_again": 2}, 0),
        ({"damaged": [{"sha256": "ab", "accounts": ["alice"], "repaired": True}]}, 0),
        ({"damaged": [{"sha256": "ab", "accounts": ["alice"], "repaired": False}]}, 1),
        ({"adopted": ADOPTED}, 0),
        ({"adopted": ADOPTED | {"unreadable": ["ab: Input/output error"]}}, 1),
        ({"uncompared": ["ab: Too many open files"]}, 1),
        ({"catalogue": ["a row is missing"]}, 1),
    ],
)
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_the_exit_code_says_whether_all_is_well(
    monkeypatch: pytest.MonkeyPatch, found: dict[str, Any], code: int, options: list[str]
) -> None:
    row = {"blobs": 8, "damaged": [], "repaired": 0, "found_again": 0, "uncompared": []}
    row |= {"failures": [], "catalogue": [], "set_aside": 0, "adopted": None} | found
    monkeypatch.setattr(upkeep, "operate", lambda *_, **__: row)
    assert CliRunner().invoke(app, ["verify", *options]).exit_code == code


@pytest.mark.parametrize(
    ("options", "said"),
    [([], "give --account NAME"), (["--account", "alice"], "alice's, which has to be synced")],
)
def test_what_is_left_over_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, options: list[str], said: str
) -> None:
    row = {"blobs": 8, "damaged": [], "repaired": 0, "found_again": 0, "uncompared": []}
    row |= {"failures": [], "catalogue": [], "set_aside": 0, "adopted": ADOPTED | {"untold": 2}}
    monkeypatch.setattr(upkeep, "operate", lambda *_, **__: row)
    output = CliRunner().invoke(app, ["verify", "--adopt", *options]).output

    assert said in output
