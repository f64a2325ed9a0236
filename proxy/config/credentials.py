"""Where an account's password is, by its keys. Nothing is read or run here, and no message repeats
a secret."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from proxy.config.values import WrongValue, directory, show, text
from proxy.domain.password_source import PasswordSource, why_unusable

KEYS = ("password", "password_file", "password_env", "password_command")


def literal(value: Any) -> bytes:
    """A password that stands in the configuration itself.

    Raises:
        WrongValue: it is no text, empty, or cannot be sent in POP3.
    """
    if not isinstance(value, str):
        raise WrongValue("the password is not text in quotes")
    password = value.encode()
    if why := why_unusable(password):
        raise WrongValue(why)
    return password


def source(key: str, value: Any, base: Path, place: str) -> PasswordSource:
    """Where `key = value` leads to; files are relative to `base`.

    Raises:
        WrongValue: nowhere.
    """
    if key == "password_file":
        return PasswordSource("file", (str(directory(base)(value)),), show(value), place)
    if key == "password_env":
        return PasswordSource("variable", (text(value),), show(value), place)
    return PasswordSource("command", _words(value), "", place)


def _words(value: Any) -> tuple[str, ...]:
    allowed = "a command: text in quotes, or a list of it"
    if isinstance(value, list) and value and all(isinstance(word, str) for word in value):
        return tuple(value)
    if isinstance(value, str):
        try:
            words = shlex.split(value)
        except ValueError:
            raise WrongValue("the command has a quotation mark that is not closed") from None
        if words:
            return tuple(words)
    raise WrongValue(f"this is not {allowed}")
