"""POP3_SYNC_… variables: which there are, and laying their values over the file's."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import is_dataclass
from difflib import get_close_matches
from typing import Any, get_origin, get_type_hints

from proxy.config.problems import Report
from proxy.config.schema import Settings

PREFIX = "POP3_SYNC_"
CONFIG_FILE = "POP3_SYNC_CONFIG"
"""Names the configuration file; the command line reads it."""


def variables() -> dict[str, tuple[tuple[str, ...], Any]]:
    """Every variable with the path and the type of its key; accounts have none."""
    found: dict[str, tuple[tuple[str, ...], Any]] = {}
    for name, kind in get_type_hints(Settings).items():
        if isinstance(kind, type) and is_dataclass(kind):
            for key, key_kind in get_type_hints(kind).items():
                found[f"{PREFIX}{name}__{key}".upper()] = ((name, key), key_kind)
        elif name != "account":
            found[f"{PREFIX}{name}".upper()] = ((name,), kind)
    return found


def overlay(document: dict[str, Any], environ: Mapping[str, str], report: Report) -> None:
    """Write the variables into `document`, and into `report` what they are and which are unknown.

    A variable that an account's `password_env` names is the account's own business.
    """
    known = variables()
    borrowed = {CONFIG_FILE, *_password_variables(document)}
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in borrowed:
            continue
        if name not in known:
            near = get_close_matches(name, known, n=1, cutoff=0.0)[0]
            report.lines.append(f"{name}: unknown variable; did you mean {near}?")
            continue
        path, kind = known[name]
        value = _read(environ[name], kind)
        table = document if len(path) == 1 else document.setdefault(path[0], {})
        # A table that is something else is reported as such when it is read.
        if isinstance(table, dict):
            table[path[-1]] = value
            report.variables[path] = name


def _read(text: str, kind: Any) -> Any:
    """The value in TOML's types; text that is not of the wanted kind stays as it is, so that the
    problem shows what was given."""
    if get_origin(kind) is tuple and not text.lstrip().startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    if kind not in (bool, int) and get_origin(kind) is not tuple:
        return text
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return parsed["value"] if len(parsed) == 1 else text


def _password_variables(document: Mapping[str, Any]) -> set[str]:
    accounts = document.get("account")
    if not isinstance(accounts, list):
        return set()
    names = (account.get("password_env") for account in accounts if isinstance(account, dict))
    return {name for name in names if isinstance(name, str)}
