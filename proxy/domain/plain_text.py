"""Text of strangers made fit to stand in a sentence."""

from __future__ import annotations


def printable(text: str) -> str:
    """Controls, line separators, lone surrogates and the characters that reorder text become
    spaces, one each."""
    return "".join(c if c.isprintable() else " " for c in text)


def one_line(text: str, limit: int) -> str:
    """On one line, printable, at most `limit` characters; spaces in a row become one."""
    line = " ".join(printable(text[: 4 * limit]).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
