"""Asking a person on the terminal; where there is none, saying which option is missing."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import typer

from proxy.domain.errors import BadRequest


def say(text: str) -> None:
    """On the way; standard output is for what comes of it."""
    typer.echo(text, err=True)


@dataclass(frozen=True, slots=True)
class Person:
    terminal: bool
    """Whether there is somebody to ask."""
    agrees: bool
    """To whatever can be agreed to (--yes)."""

    def text(self, question: str, *, option: str, default: str | None = None) -> str:
        """Raises:
        BadRequest: nobody is there.
        """
        self._must_be_there(option)
        answer: str = typer.prompt(question, default=default, err=True)
        return answer.strip()

    def password(self, question: str, *, option: str) -> bytes:
        """Raises:
        BadRequest: nobody is there.
        """
        self._must_be_there(option)
        answer: str = typer.prompt(question, hide_input=True, err=True)
        return answer.encode(errors="surrogateescape")

    def confirms(self, question: str, *, option: str) -> bool:
        """Raises:
        BadRequest: nobody is there, and --yes was not given.
        """
        if self.agrees:
            return True
        self._must_be_there(option)
        return typer.confirm(question, default=True, err=True)

    def _must_be_there(self, option: str) -> None:
        if not self.terminal:
            raise BadRequest(f"{option} is missing, and there is no terminal to ask on")


def person(*, agrees: bool) -> Person:
    return Person(terminal=sys.stdin.isatty(), agrees=agrees)
