"""Text of strangers made fit to stand in a sentence."""

from __future__ import annotations


def one_line(text: str, limit: int) -> str:
    """On one line, printable, at most `limit` characters.

    Controls, line separators, lone surrogates and the characters that reorder text become spaces.
    """
    words = "".join(c if c.isprintable() else " " for c in text[: 4 * limit]).split()
    line = " ".join(words)
    return line if len(line) <= limit else line[: limit - 1] + "…"
