"""Sockets that nobody but whom they are for can ever open."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from pathlib import Path

import pytest

from proxy.adapters.listeners import open_listener
from proxy.adapters.unix_sockets import address_of, bind_control, bind_unix, control_address

NOBODY = 65534

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to somebody else")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
@pytest.mark.parametrize("wanted", [0o600, 0o660])
def test_the_mode_is_what_was_asked_for_whatever_the_umask(
    tmp_path: Path, wanted: int, umask: int
) -> None:
    before = os.umask(umask)
    try:
        bind_unix(tmp_path / "s", wanted).close()
    finally:
        os.umask(before)
    assert mode(tmp_path / "s") == wanted


@pytest.mark.skipif(os.uname().sysname != "Linux", reason="what Linux alone can do")
def test_it_is_never_open_to_others_not_even_at_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = []

    def look(path: str, _mode: int) -> None:
        first.append(mode(Path(path)))

    before = os.umask(0)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(os, "chmod", look)
            bind_control(tmp_path).close()
    finally:
        os.umask(before)
    assert first == [0o600]


async def test_no_listener_changes_the_mask_of_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_mask: int) -> int:
        raise AssertionError("other files are made meanwhile")

    monkeypatch.setattr(os, "umask", refuse)
    bind_control(tmp_path).close()
    listener = await open_listener(f"unix:{tmp_path / 'pop3'}", asyncio.Protocol)
    await listener.close()


async def test_a_listener_is_opened_under_a_path_of_any_length(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    listener = await open_listener(f"unix:{folder / 'pop3'}", asyncio.Protocol)
    try:
        assert listener.addresses == (f"unix:{folder / 'pop3'}",)
        with address_of(folder / "pop3") as address:
            _, writer = await asyncio.open_unix_connection(address)
            writer.close()
            await writer.wait_closed()
        with pytest.raises(OSError, match="another program listens"):
            await open_listener(f"unix:{folder / 'pop3'}", asyncio.Protocol)
    finally:
        await listener.close()
    assert list(folder.iterdir()) == []


def test_where_no_long_path_can_be_named_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.adapters.unix_sockets.DESCRIPTORS", str(tmp_path / "none"))
    long = tmp_path / ("x" * 120)
    long.mkdir()
    with pytest.raises(OSError, match="shorter name"):
        bind_control(long)
    (tmp_path / "short").symlink_to(long)
    bind_control(tmp_path / "short").close()
    assert (long / "control.sock").is_socket()


def test_a_stale_socket_or_what_is_in_its_place_makes_room(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("precious")
    (tmp_path / "control.sock").symlink_to(tmp_path / "other")
    bind_control(tmp_path).close()
    bind_control(tmp_path).close()
    assert (tmp_path / "other").read_text() == "precious"


@pytest.mark.parametrize("there", ["nothing", "link", "file"])
def test_what_is_no_socket_of_the_folder_is_not_spoken_to(tmp_path: Path, there: str) -> None:
    folder, other = tmp_path / "data", tmp_path / "other"
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(other))
        if there == "link":
            (folder / "control.sock").symlink_to(other)
        elif there == "file":
            (folder / "control.sock").touch()
        with pytest.raises(ConnectionError), control_address(folder):
            pass


@root_only
def test_a_socket_of_somebody_else_is_not_spoken_to(tmp_path: Path) -> None:
    bind_control(tmp_path).close()
    os.chown(tmp_path / "control.sock", NOBODY, NOBODY)
    with pytest.raises(ConnectionError, match="somebody else"), control_address(tmp_path):
        pass
    os.chown(tmp_path, NOBODY, NOBODY)
    with control_address(tmp_path):
        """A proxy that runs as its own user."""
