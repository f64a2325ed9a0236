"""Fetching passwords from files, variables and commands. No message here repeats any of them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector

from proxy.domain.errors import PasswordUnavailable
from proxy.domain.password_source import PasswordSource, why_unusable

COMMAND_TIMEOUT = 30.0
"""Seconds; enough for a key store on a slow machine, and a start that hangs is noticed."""

OUTPUT_LIMIT = 64 * 1024
"""Octets that a command may print, or a file may hold."""

AT_ONCE = 8

OURS = "POP3_SYNC_"
"""What the names of the variables begin with that configure this program."""

CREDENTIALS = "CREDENTIALS_DIRECTORY"
"""Leads to the key of what the store keeps (systemd.exec(5))."""


class SystemPasswordSources:
    """See `interfaces.password_sources.PasswordSources`."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        # Threads of its own: commands that hang must not keep the store waiting.
        self._threads = ThreadPoolExecutor(AT_ONCE, "password")

    async def fetch(self, source: PasswordSource, secret_variables: Collection[str]) -> bytes:
        loop = asyncio.get_running_loop()
        try:
            password = await loop.run_in_executor(
                self._threads, self._fetch, source, secret_variables
            )
            if why := why_unusable(password):
                raise PasswordUnavailable(why)
        except PasswordUnavailable as error:
            raise PasswordUnavailable(f"{source.place}: {error}") from None
        return password

    def _fetch(self, source: PasswordSource, secret_variables: Collection[str]) -> bytes:
        if source.kind == "file":
            return from_file(Path(source.value[0]), source.shown)
        if source.kind == "variable":
            if source.value[0] not in self._environ:
                raise PasswordUnavailable(f"there is no environment variable {source.shown}")
            return self._environ[source.value[0]].encode(errors="surrogateescape")
        return _from_command(source.value, without_secrets(self._environ, secret_variables))


def without_secrets(environ: Mapping[str, str], more: Collection[str] = ()) -> dict[str, str]:
    """An environment for a program that is not ours: all but what holds our secrets."""
    return {
        name: value
        for name, value in environ.items()
        if not name.startswith(OURS) and name != CREDENTIALS and name not in more
    }


def from_file(path: Path, shown: str) -> bytes:
    """The content, without the end of its line.

    Raises:
        PasswordUnavailable
    """
    try:
        with path.open("rb") as file:
            content = file.read(OUTPUT_LIMIT + 1)
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise PasswordUnavailable(f"{shown} cannot be read: {why}") from None
    if len(content) > OUTPUT_LIMIT:
        raise PasswordUnavailable(f"{shown} is too long for a password")
    return content.removesuffix(b"\n").removesuffix(b"\r")


def _from_command(words: tuple[str, ...], environ: dict[str, str]) -> bytes:
    """The first line it prints."""
    try:
        process = subprocess.Popen(  # noqa: S603 - the operator's own command, without a shell
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environ,
            # What it starts is ended with it.
            process_group=0,
        )
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or type(error).__name__
        raise PasswordUnavailable(f"the command cannot be run: {why}") from None
    if process.stdout is None:
        raise AssertionError
    until = time.monotonic() + COMMAND_TIMEOUT
    try:
        printed = _printed(process.stdout.fileno(), until)
        code = process.wait(max(until - time.monotonic(), 0))
    except (TimeoutError, subprocess.TimeoutExpired):
        raise PasswordUnavailable(
            f"the command did not end within {COMMAND_TIMEOUT:.0f}s"
        ) from None
    finally:
        if process.poll() is None:
            _kill(process)
            process.wait()
        process.stdout.close()
    if code != 0:
        raise PasswordUnavailable(f"the command ended with exit code {code}")
    return printed.partition(b"\n")[0].removesuffix(b"\r")


def _printed(descriptor: int, until: float) -> bytes:
    """All that comes until the end; what the command has started may keep it from coming.

    Raises:
        TimeoutError: there is no end.
        PasswordUnavailable: it is too much.
    """
    printed = b""
    with DefaultSelector() as selector:
        selector.register(descriptor, EVENT_READ)
        while len(printed) <= OUTPUT_LIMIT:
            if not selector.select(max(until - time.monotonic(), 0)):
                raise TimeoutError
            part = os.read(descriptor, OUTPUT_LIMIT)
            if not part:
                return printed
            printed += part
    raise PasswordUnavailable("the command prints too much for a password")


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
