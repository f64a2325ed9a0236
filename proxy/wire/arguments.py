"""Arguments of POP3 commands (RFC 1939 §5)."""

from __future__ import annotations


class BadSyntax(Exception):
    """A malformed command; the text is for the client."""


def no_arguments(rest: bytes) -> None:
    """Raises:
    BadSyntax: there are some.
    """
    if rest.strip():
        raise BadSyntax("no arguments expected")


def numbers(rest: bytes, count: int) -> list[int]:
    """Exactly so many, none of them negative.

    Raises:
        BadSyntax: anything else.
    """
    words = rest.split()
    if len(words) != count:
        raise BadSyntax(f"expected {count} number{'s' if count > 1 else ''}")
    for word in words:
        # 10 digits hold every message number and line count; more would only cost time.
        if not word.isdigit() or len(word) > 10:
            raise BadSyntax("not a number")
    return [int(word) for word in words]


def optional_number(rest: bytes) -> int | None:
    """One, or none.

    Raises:
        BadSyntax: anything else.
    """
    return numbers(rest, 1)[0] if rest.strip() else None
