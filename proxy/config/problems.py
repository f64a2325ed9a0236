"""Collecting what is wrong with a configuration: one line per problem, no secret in any."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any

from cattrs.errors import ClassValidationError, ForbiddenExtraKeysError, IterableValidationError

from proxy.config.values import WrongValue

KeyPath = tuple[str | int, ...]
"""Table, key; `("account", 0, "sync", "interval")` for the first [[account]]."""

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(slots=True)
class Report:
    """Problems found so far, and how to name the places they are in."""

    file: str
    """As the operator wrote it; "" without a file."""
    variables: dict[KeyPath, str] = field(default_factory=dict)
    """Environment variables in effect; a problem with their value is reported by their name."""
    account_names: dict[int, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    def add(self, path: KeyPath, text: str) -> None:
        self.lines.append(f"{self.where(path)}: {text}")

    def add_all(self, error: BaseException, path: KeyPath = ()) -> None:
        """Every problem in what cattrs raised, however deep."""
        for place, text in _flatten(error, path):
            self.add(place, text)

    def where(self, path: KeyPath) -> str:
        """What a line about this begins with."""
        variable = self.variables.get(path)
        if variable:
            return variable
        return ": ".join(part for part in (self.file, self._dotted(path)) if part)

    def _dotted(self, path: KeyPath) -> str:
        return ".".join(quoted(self._called(part)) for part in path)

    def _called(self, part: str | int) -> str:
        # Accounts are called by name where they have one: people do not count tables.
        if isinstance(part, int):
            return self.account_names.get(part, f"#{part + 1}")
        return part


def quoted(key: str) -> str:
    """A key as TOML writes it."""
    return key if _BARE_KEY.fullmatch(key) else json.dumps(key, ensure_ascii=not key.isprintable())


def nearest(name: str, known: Iterable[str]) -> str:
    """ "; did you mean …?", or the list of what there is when nothing is near."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    return f'; did you mean "{near[0]}"?' if near else f"; known here: {', '.join(names)}"


def _flatten(error: BaseException, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    if isinstance(error, ClassValidationError):
        inner, bare = error.group_exceptions()
        for problem, note in inner:
            yield from _flatten(problem, (*path, note.name))
        for problem in bare:
            yield from _flatten(problem, path)
    elif isinstance(error, IterableValidationError):
        for problem, index in error.group_exceptions()[0]:
            yield from _flatten(problem, (*path, *_account_index(path, index.index)))
    elif isinstance(error, ForbiddenExtraKeysError):
        shape: Any = error.cl
        known = [key.name for key in fields(shape)]
        for name in sorted(error.extra_fields):
            yield (*path, name), f"unknown key{nearest(name, known)}"
    elif isinstance(error, WrongValue):
        yield path, str(error)
    elif isinstance(error, KeyError):
        yield path, "needed, and missing"
    else:
        raise error


def _account_index(path: KeyPath, index: int | str) -> KeyPath:
    # In a list of addresses the wrong value says which one it is.
    return (index,) if path == ("account",) else ()
