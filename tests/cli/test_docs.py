"""What the documentation tells people to type exists."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from proxy.cli.main import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "grafana/README.md"]

USAGE_ERROR: Any = typer.BadParameter.__bases__[0]


def lines_to_type(page: Path) -> Iterator[str]:
    """Commands in blocks of code, and whole commands in the text between back-ticks."""
    text = page.read_text()
    for block in re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            yield line.partition(" #")[0]
    yield from re.findall(r"`(pop3-sync-proxy [^`]+)`", re.sub(r"\s+", " ", text))


def commands() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        if page.exists():
            for line in lines_to_type(page):
                program, typed, rest = line.partition("pop3-sync-proxy ")
                if typed and program.strip() in ("", ".venv/bin/"):
                    found.append((page.name, re.split(r"[|>;]|&&", rest)[0].strip()))
    return found


@pytest.mark.parametrize(("page", "command"), commands())
def test_a_command_in_the_documentation_is_one_the_program_takes(page: str, command: str) -> None:
    words = shlex.split(command.replace("…", ""))
    try:
        parse(typer.main.get_command(app), words)
    except typer.Exit:
        pass  # --version and the like end there
    except USAGE_ERROR as error:
        pytest.fail(f"{page}: pop3-sync-proxy {command}: {error}")


def parse(command: Any, words: list[str]) -> None:
    """As the program would, up to where it would begin to work."""
    if not words and not hasattr(command, "commands"):
        return  # named alone, in passing
    if (group := getattr(command, "commands", None)) and words and not words[0].startswith("-"):
        assert words[0] in group, f"no command {words[0]}"
        parse(group[words[0]], words[1:])
    elif words != ["--install-completion"]:
        command.make_context("", words)


def test_there_are_such_commands() -> None:
    assert len(commands()) > 40
