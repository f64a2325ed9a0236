"""Passwords from commands and files that behave badly, and what a command is given."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

import pytest

from proxy.adapters import password_sources
from proxy.adapters.password_sources import SystemPasswordSources
from proxy.domain.errors import PasswordUnavailable
from proxy.domain.password_source import PasswordSource

ENVIRON = {
    "PATH": os.environ["PATH"],
    "HOME": "/home/alice",
    "GNUPGHOME": "/home/alice/.gnupg",
    "DBUS_SESSION_BUS_ADDRESS": "unix:path=/run/user/1000/bus",
    "POP3_SYNC_SECRETS__KEY": "our key",
    "POP3_SYNC_ACCOUNT__1__PASSWORD": "bob's",
    "CREDENTIALS_DIRECTORY": "/run/credentials/pop3-sync-proxy.service",
    "BOBS_PASSWORD": "bob's",
}


def command(*words: str) -> PasswordSource:
    return PasswordSource("command", words, "", "account.alice.password_command")


def python(code: str) -> PasswordSource:
    return command(sys.executable, "-c", code)


async def fetch(source: PasswordSource, environ: dict[str, str] | None = None) -> bytes:
    sources = SystemPasswordSources(ENVIRON if environ is None else environ)
    return await sources.fetch(source, {"BOBS_PASSWORD"})


async def test_a_command_sees_what_it_needs_and_none_of_our_secrets(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    code = f"import os; open({str(seen)!r}, 'w').write(repr(dict(os.environ))); print('secret')"
    assert await fetch(python(code)) == b"secret"
    text = seen.read_text()
    assert all(name in text for name in ("PATH", "HOME", "GNUPGHOME", "DBUS_SESSION_BUS_ADDRESS"))
    assert not any(name in text for name in ("POP3_SYNC", "CREDENTIALS_DIRECTORY", "BOBS_PASSWORD"))
    assert "our key" not in text
    assert "bob's" not in text


@pytest.mark.parametrize(
    "code",
    [
        "import time; time.sleep(600)",
        # It has gone, and what it has started holds the pipe.
        "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; "
        "time.sleep(600)'])",
        "import os, time; os.close(1); time.sleep(600)",
        "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; "
        "time.sleep(600)'], start_new_session=True)",
    ],
    ids=["it hangs", "its child hangs", "it hangs in silence", "its child hangs elsewhere"],
)
async def test_a_command_that_does_not_end_is_given_up_and_the_loop_goes_on(
    monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    monkeypatch.setattr(password_sources, "COMMAND_TIMEOUT", 1.0)
    began, turns = time.monotonic(), 0
    fetching = asyncio.create_task(fetch(python(code)))
    while not fetching.done():
        await asyncio.sleep(0.01)
        turns += 1
    with pytest.raises(PasswordUnavailable, match=r"account\.alice.*did not end within 1s"):
        await fetching
    assert turns > 10
    assert time.monotonic() - began < 60


async def test_what_a_command_has_started_ends_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(password_sources, "COMMAND_TIMEOUT", 2.0)
    fifo = tmp_path / "alive"
    os.mkfifo(fifo)
    # Whoever reads sees the end once nobody has it open for writing.
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        shell = command("/bin/sh", "-c", f"exec 3>{fifo}; echo >&3; sleep 600 & wait")
        with pytest.raises(PasswordUnavailable, match="did not end"):
            await fetch(shell)
        assert os.read(reader, 10) == b"\n"
        until = time.monotonic() + 20
        while time.monotonic() < until:
            try:
                if os.read(reader, 10) == b"":
                    return
            except BlockingIOError:
                await asyncio.sleep(0.01)
        raise AssertionError("it lives on")
    finally:
        os.close(reader)


async def test_a_command_that_prints_without_end_is_stopped() -> None:
    with pytest.raises(PasswordUnavailable, match="prints too much"):
        await fetch(command("yes", "secret"))


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("print('hush'); raise SystemExit(3)", "exit code 3"),
        ("import os, signal; print('hush'); os.kill(os.getpid(), 9)", "exit code -9"),
        ("pass", "empty"),
        ("print('hu\\0sh')", "zero octet"),
    ],
)
async def test_nothing_that_a_command_printed_is_told(code: str, why: str) -> None:
    with pytest.raises(PasswordUnavailable, match=why) as caught:
        await fetch(python(code))
    assert str(caught.value).startswith("account.alice.password_command: ")
    assert "hu" not in str(caught.value)


async def test_a_file_without_end_is_not_read_to_it() -> None:
    source = PasswordSource("file", ("/dev/zero",), '"/dev/zero"', "here")
    with pytest.raises(PasswordUnavailable, match="is too long for a password"):
        await fetch(source)


async def test_hanging_commands_do_not_keep_other_work_from_the_loop_s_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(password_sources, "COMMAND_TIMEOUT", 3.0)
    sources = SystemPasswordSources(ENVIRON)
    hanging = [asyncio.create_task(sources.fetch(command("sleep", "600"), ())) for _ in range(40)]
    await asyncio.sleep(0)
    assert await asyncio.to_thread(lambda: "done") == "done"
    assert not any(task.done() for task in hanging)
    for task in hanging:
        task.cancel()
    await asyncio.gather(*hanging, return_exceptions=True)
