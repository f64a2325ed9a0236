"""Files that must not exist yet: all of them or none, whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from proxy.adapters.new_files import NewFile, write_new


def pair(folder: Path) -> tuple[NewFile, NewFile]:
    secret = NewFile(folder / "secrets" / "alice", b"secret\n", 0o600)
    return secret, NewFile(folder / "proxy.toml", b"text\n", 0o644)


def test_all_are_there_with_their_modes_and_nothing_else(tmp_path: Path) -> None:
    files = pair(tmp_path)
    write_new(*files)
    for file in files:
        assert file.path.read_bytes() == file.content
        assert file.path.stat().st_mode & 0o777 == file.mode
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["alice", "proxy.toml", "secrets"]


def test_one_that_exists_is_left_as_it_is_and_the_others_are_not_made(tmp_path: Path) -> None:
    (tmp_path / "proxy.toml").write_text("mine\n")
    with pytest.raises(FileExistsError):
        write_new(*pair(tmp_path))
    assert [path.name for path in tmp_path.rglob("*")] == ["proxy.toml"]
    assert (tmp_path / "proxy.toml").read_text() == "mine\n"


@pytest.mark.parametrize("call", [*range(1, 5)])
def test_whatever_stops_it_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    """Ctrl-C at each of the two fsyncs and the two renames."""
    calls = 0

    def stopping(real: object) -> object:
        def step(*arguments: object) -> None:
            nonlocal calls
            calls += 1
            if calls == call:
                raise KeyboardInterrupt
            assert callable(real)
            real(*arguments)

        return step

    monkeypatch.setattr(os, "fsync", stopping(os.fsync))
    monkeypatch.setattr(os, "rename", stopping(os.rename))
    with pytest.raises(KeyboardInterrupt):
        write_new(*pair(tmp_path))
    assert list(tmp_path.iterdir()) == []
