"""Each sentence of the README on security names tests that are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
TABLE = (ROOT / "docs" / "security.md").read_text().replace("(../config/", "(config/")
ROWS = re.findall(r"^\| (.+\.) \| ((?:`[^`]+`(?:, )?)+) \|$", TABLE, re.MULTILINE)


def sentences() -> list[str]:
    readme = (ROOT / "README.md").read_text()
    section = readme.partition("## Security\n")[2].partition("\n## ")[0]
    points = re.findall(r"^- (.+(?:\n  .+)*)", section, re.MULTILINE)
    text = " ".join(" ".join(point.split()) for point in points)
    return re.split(r"(?<=\.) (?=[A-Z`])", text)


def functions(file: str) -> set[str]:
    return {getattr(node, "name", "") for node in ast.parse((TESTS / file).read_text()).body}


def test_every_sentence_has_its_row() -> None:
    assert sentences() == [sentence for sentence, _ in ROWS]
    assert len(ROWS) > 15


@pytest.mark.parametrize(("sentence", "tests"), ROWS)
def test_a_sentence_names_tests_that_are_there(sentence: str, tests: str) -> None:
    for test in re.findall(r"`([^`]+)`", tests):
        file, _, name = test.partition("::")
        assert name in functions(file), f"{test}, of: {sentence}"
