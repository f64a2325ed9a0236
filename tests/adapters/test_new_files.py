"""Files that must not exist yet: all of them or none, whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from proxy.adapters.new_files import NewFile, new_file, write_new


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
    """Ctrl-C at each of the two fsyncs and the two links."""
    calls = 0

    def stopping(real: object) -> object:
        def step(*arguments: object, **more: object) -> None:
            nonlocal calls
            calls += 1
            if calls == call:
                raise KeyboardInterrupt
            assert callable(real)
            real(*arguments, **more)

        return step

    monkeypatch.setattr(os, "fsync", stopping(os.fsync))
    monkeypatch.setattr(os, "link", stopping(os.link))
    with pytest.raises(KeyboardInterrupt):
        write_new(*pair(tmp_path))
    assert list(tmp_path.iterdir()) == []


def without_links(*_: object, **__: object) -> None:
    raise PermissionError("this file system has none")


@pytest.mark.parametrize("links", [True, False])
def test_one_that_appears_meanwhile_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, links: bool
) -> None:
    if not links:
        monkeypatch.setattr(os, "link", without_links)
    write_new(NewFile(tmp_path / "free", b"ours", 0o600))
    assert (tmp_path / "free").read_bytes() == b"ours"
    (tmp_path / "taken").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError):
        write_new(NewFile(tmp_path / "other", b"", 0o600), NewFile(tmp_path / "taken", b"", 0o600))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["free", "taken"]


@pytest.mark.parametrize("umask", [0, 0o022])
def test_a_file_of_mail_is_for_its_owner_alone_from_the_start(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with new_file(tmp_path / "mail") as file:
            assert (tmp_path / "mail").stat().st_mode & 0o777 == 0o600
            file.write(b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "mail").read_bytes() == b"x"


@pytest.mark.parametrize("there", ["file", "link", "fifo"])
def test_a_file_of_mail_takes_no_name_that_is_taken(tmp_path: Path, there: str) -> None:
    path, other = tmp_path / "mail", tmp_path / "other"
    other.write_text("precious")
    if there == "file":
        path.write_text("precious")
    elif there == "link":
        path.symlink_to(other)
    else:
        os.mkfifo(path)
    with pytest.raises(FileExistsError, match="exists already"), new_file(path):
        pass
    assert other.read_text() == "precious"
    assert os.path.lexists(path)


def test_a_file_of_mail_that_is_not_finished_is_gone_again(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), new_file(tmp_path / "mail") as file:
        file.write(b"%d" % (1 // 0))
    assert list(tmp_path.iterdir()) == []
