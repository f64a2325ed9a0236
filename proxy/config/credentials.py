"""Fetching an account's password from where it is kept. No message here repeats any of it."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from proxy.config.values import WrongValue, directory, show, text

KEYS = ("password", "password_file", "password_env", "password_command")

COMMAND_TIMEOUT = 30.0
"""Seconds; enough for a key store on a slow machine, and a start that hangs is noticed."""


def fetch(key: str, value: Any, base: Path, environ: Mapping[str, str]) -> bytes:
    """The password that `key = value` leads to; files are relative to `base`.

    Blocks as long as a `password_command` takes.

    Raises:
        WrongValue: it cannot be had, is empty, or cannot be sent in POP3.
    """
    if key == "password":
        if not isinstance(value, str):
            raise WrongValue("the password is not text in quotes")
        password = value.encode()
    elif key == "password_file":
        password = _from_file(value, base)
    elif key == "password_env":
        if text(value) not in environ:
            raise WrongValue(f"there is no environment variable {show(value)}")
        password = environ[value].encode(errors="surrogateescape")
    else:
        password = _from_command(value, environ)
    return usable(password)


def usable(password: bytes) -> bytes:
    """Raises:
    WrongValue: it is empty, or cannot be sent in POP3.
    """
    if not password:
        raise WrongValue("the password is empty")
    if any(octet in password for octet in b"\r\n\0"):
        raise WrongValue("the password holds a line break or a zero octet, which POP3 cannot send")
    return password


def _from_file(value: Any, base: Path) -> bytes:
    path = directory(base)(value)
    try:
        content = path.read_bytes()
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise WrongValue(f"{show(value)} cannot be read: {why}") from None
    return content.removesuffix(b"\n").removesuffix(b"\r")


def _from_command(value: Any, environ: Mapping[str, str]) -> bytes:
    command = _words(value)
    try:
        result = subprocess.run(  # noqa: S603 - the operator's own command, without a shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=COMMAND_TIMEOUT,
            check=False,
            env=dict(environ),
        )
    except subprocess.TimeoutExpired:
        raise WrongValue(f"the command did not end within {COMMAND_TIMEOUT:.0f}s") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or type(error).__name__
        raise WrongValue(f"the command cannot be run: {why}") from None
    if result.returncode != 0:
        raise WrongValue(f"the command ended with exit code {result.returncode}")
    return result.stdout.partition(b"\n")[0].removesuffix(b"\r")


def _words(value: Any) -> list[str]:
    allowed = "a command: text in quotes, or a list of it"
    if isinstance(value, list) and value and all(isinstance(word, str) for word in value):
        return list(value)
    if isinstance(value, str):
        try:
            words = shlex.split(value)
        except ValueError:
            raise WrongValue("the command has a quotation mark that is not closed") from None
        if words:
            return words
    raise WrongValue(f"this is not {allowed}")
