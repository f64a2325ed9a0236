"""POP3_SYNC_… variables: which there are, and laying their values over the file's."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import is_dataclass
from difflib import get_close_matches
from typing import Any, get_origin, get_type_hints

from proxy.config.problems import KeyPath, Report
from proxy.config.schema import Settings
from proxy.config.structure import AccountTable

PREFIX = "POP3_SYNC_"
CONFIG_FILE = "POP3_SYNC_CONFIG"
"""Names the configuration file; the command line reads it."""


_ACCOUNT = re.compile(rf"{PREFIX}ACCOUNT__(\d+)__(\w+)")
"""The number says which variables are of one account, and nothing else."""


def variables() -> dict[str, tuple[tuple[str, ...], Any]]:
    """Every variable with the path and the type of its key, but for those of accounts."""
    return {f"{PREFIX}{name}": key for name, key in _keys(Settings) if key[0] != ("account",)}


def _keys(table: type[Any]) -> list[tuple[str, tuple[tuple[str, ...], Any]]]:
    """NAME or NAME__KEY for every key of a table and of the tables in it."""
    found: list[tuple[str, tuple[tuple[str, ...], Any]]] = []
    for name, kind in get_type_hints(table).items():
        if isinstance(kind, type) and is_dataclass(kind):
            for key, key_kind in get_type_hints(kind).items():
                found.append((f"{name}__{key}".upper(), ((name, key), key_kind)))
        else:
            found.append((name.upper(), ((name,), kind)))
    return found


def overlay(document: dict[str, Any], environ: Mapping[str, str], report: Report) -> None:
    """Write the variables into `document`, and into `report` what they are and which are unknown.

    Accounts come after those of the file. A variable that an account's `password_env` names is the
    account's own business.
    """
    known, of_account = variables(), dict(_keys(AccountTable))
    borrowed = {CONFIG_FILE, *_password_variables(document, environ)}
    accounts = _Accounts(document)
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in borrowed:
            continue
        account = _ACCOUNT.fullmatch(name)
        number, key = account.groups() if account else ("", name)
        keys = of_account if account else known
        if key not in keys:
            near = get_close_matches(key, keys, n=1, cutoff=0.0)[0]
            start = name.removesuffix(key)
            report.lines.append(f"{name}: unknown variable; did you mean {start}{near}?")
            continue
        path, kind = keys[key]
        table, above = accounts.table(number) if account else (document, ())
        if len(path) > 1 and isinstance(table, dict):
            table = table.setdefault(path[0], {})
        # A table that is something else is reported as such when it is read.
        if isinstance(table, dict):
            table[path[-1]] = _read(environ[name], kind)
            report.variables[(*above, *path)] = name


class _Accounts:
    """The [[account]] tables, to which those of the environment are added."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self._paths: dict[str, KeyPath] = {}

    def table(self, number: str) -> tuple[Any, KeyPath]:
        """That of the account with this number, made if need be, and its place."""
        tables = self._document.setdefault("account", [])
        if not isinstance(tables, list):
            return None, ()
        if number not in self._paths:
            self._paths[number] = ("account", len(tables))
            tables.append({})
        path = self._paths[number]
        return tables[int(path[1])], path


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


def _password_variables(document: Mapping[str, Any], environ: Mapping[str, str]) -> set[str]:
    accounts = document.get("account")
    tables = accounts if isinstance(accounts, list) else []
    names = [table.get("password_env") for table in tables if isinstance(table, dict)]
    for name, value in environ.items():
        account = _ACCOUNT.fullmatch(name)
        if account and account[2] == "PASSWORD_ENV":
            names.append(value)
    return {name for name in names if isinstance(name, str)}
