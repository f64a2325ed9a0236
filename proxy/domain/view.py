"""The numbered list of messages that one device sees in one session."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from proxy.domain.errors import NoSuchMessage
from proxy.domain.model import Message


class Listing:
    """The messages of a view in order, with the replies that list them rendered once.

    Immutable, so that sessions share one until the store's version moves on.
    """

    def __init__(self, messages: Sequence[Message]) -> None:
        self.messages = messages

    @cached_property
    def octets(self) -> int:
        return sum(message.octets for message in self.messages)

    @cached_property
    def list_lines(self) -> bytes:
        """Scan listings (RFC 1939 §5, LIST), each line ending in CRLF."""
        return "".join(
            f"{number} {message.octets}\r\n" for number, message in enumerate(self.messages, 1)
        ).encode()

    @cached_property
    def uidl_lines(self) -> bytes:
        """Unique-id listings (RFC 1939 §7, UIDL), each line ending in CRLF."""
        return "".join(
            f"{number} {message.uid}\r\n" for number, message in enumerate(self.messages, 1)
        ).encode()


class View:
    """One session's view: a listing that does not change, and the marks of this session."""

    def __init__(self, listing: Listing) -> None:
        self._listing = listing
        self._deleted: set[int] = set()
        self._retrieved: set[int] = set()
        self._deleted_octets = 0

    @property
    def count(self) -> int:
        """Messages not marked as deleted."""
        return len(self._listing.messages) - len(self._deleted)

    @property
    def octets(self) -> int:
        return self._listing.octets - self._deleted_octets

    def message(self, number: int) -> Message:
        """Raises:
        NoSuchMessage: out of range, or marked as deleted.
        """
        if not 1 <= number <= len(self._listing.messages):
            raise NoSuchMessage(f"no message {number}, only {len(self._listing.messages)} here")
        if number in self._deleted:
            raise NoSuchMessage(f"message {number} is marked as deleted")
        return self._listing.messages[number - 1]

    def mark_deleted(self, number: int) -> None:
        """Raises:
        NoSuchMessage: out of range, or marked already.
        """
        self._deleted_octets += self.message(number).octets
        self._deleted.add(number)

    def mark_retrieved(self, number: int) -> None:
        self._retrieved.add(number)

    def reset(self) -> None:
        """Unmark what is marked as deleted (RFC 1939 §5, RSET)."""
        self._deleted.clear()
        self._deleted_octets = 0

    def list_lines(self) -> bytes:
        return self._without_deleted(self._listing.list_lines)

    def uidl_lines(self) -> bytes:
        return self._without_deleted(self._listing.uidl_lines)

    def _without_deleted(self, lines: bytes) -> bytes:
        if not self._deleted:
            return lines
        kept = [
            line
            for number, line in enumerate(lines.splitlines(keepends=True), 1)
            if number not in self._deleted
        ]
        return b"".join(kept)

    def retrieved_ids(self) -> set[int]:
        return {self._listing.messages[number - 1].id for number in self._retrieved}

    def deleted_ids(self) -> set[int]:
        return {self._listing.messages[number - 1].id for number in self._deleted}
