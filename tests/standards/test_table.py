"""The table of requirements in docs/protocol.md is true."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
TABLE = (TESTS.parent / "docs" / "protocol.md").read_text()
ROWS = re.findall(r"^\| (RFC [^|]+) \| [^|]+ \| `([^`]+)` \|$", TABLE, re.MULTILINE)


def docstring(file: str, name: str) -> str:
    for node in ast.parse((TESTS / file).read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
            return ast.get_docstring(node) or ""
    raise AssertionError(f"there is no {file}::{name}")


@pytest.mark.parametrize(("section", "test"), ROWS, ids=[test for _, test in ROWS])
def test_a_row_names_a_test_that_names_its_section(section: str, test: str) -> None:
    file, _, name = test.partition("::")
    rfc, _, number = section.rpartition(" ")
    said = docstring(file, name)
    assert rfc.removesuffix(" appendix") in said
    assert number in said


def test_every_test_of_a_standard_has_its_row() -> None:
    named = {test for _, test in ROWS}
    for file in TESTS.glob("standards/test_rfc*.py"):
        for node in ast.parse(file.read_text()).body:
            name = getattr(node, "name", "")
            if name.startswith("test_"):
                assert f"standards/{file.name}::{name}" in named


def test_the_table_was_found() -> None:
    rows = [line for line in TABLE.splitlines() if line.startswith("| RFC ")]
    assert len(rows) == len(ROWS) > 60
