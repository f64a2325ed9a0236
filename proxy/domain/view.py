"""The numbered list of messages that one device sees in one session."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cached_property

from proxy.domain.errors import NoSuchMessage
from proxy.domain.model import Message

SLICE = 500
"""Messages whose lines are rendered, and sent, at once: some 40 KB of UIDL at the most."""


class Listing:
    """The messages of a view in order, with the replies that list them rendered once, slice by
    slice as they are first asked for.

    Immutable, so that sessions share one until the store's version moves on.
    """

    def __init__(self, messages: Sequence[Message]) -> None:
        self.messages = messages
        self._list_slices: dict[int, bytes] = {}
        self._uidl_slices: dict[int, bytes] = {}

    @cached_property
    def octets(self) -> int:
        return sum(message.octets for message in self.messages)

    def list_slice(self, start: int) -> bytes:
        """Scan listings (RFC 1939 §5, LIST) of the slice that follows the first `start` messages,
        each line ending in CRLF."""
        found = self._list_slices.get(start)
        if found is None:
            found = self._list_slices[start] = "".join(
                f"{number} {message.octets}\r\n" for number, message in self._slice(start)
            ).encode()
        return found

    def uidl_slice(self, start: int) -> bytes:
        """Unique-id listings (RFC 1939 §7, UIDL), likewise."""
        found = self._uidl_slices.get(start)
        if found is None:
            found = self._uidl_slices[start] = "".join(
                f"{number} {message.uid}\r\n" for number, message in self._slice(start)
            ).encode()
        return found

    def _slice(self, start: int) -> Iterator[tuple[int, Message]]:
        return enumerate(self.messages[start : start + SLICE], start + 1)


class View:
    """One session's view: a listing that does not change, and the marks of this session."""

    def __init__(self, listing: Listing, unconfirmed: Collection[int] = ()) -> None:
        """`unconfirmed`: ids of messages that were sent whole in sessions that were cut off."""
        self._listing = listing
        self._unconfirmed = unconfirmed
        self._deleted: set[int] = set()
        self._asked: set[int] = set()
        self._retrieved: set[int] = set()
        self._sent: set[int] = set()
        self._deleted_octets = 0
        self._deletes = self._uids_listed = False

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
        self._deletes = True

    def mark_asked(self, number: int) -> None:
        """The device fetches the message, however far that comes."""
        self._asked.add(number)

    def mark_retrieved(self, number: int) -> None:
        """All of it has been made ready for the device."""
        self._asked.add(number)
        self._retrieved.add(number)

    def mark_sent(self, number: int) -> None:
        """All of it has been handed to the kernel."""
        self._sent.add(number)

    def mark_listed(self) -> None:
        """The list of all UIDLs has been handed to the kernel."""
        self._uids_listed = True

    def reset(self) -> None:
        """Unmark what is marked as deleted (RFC 1939 §5, RSET)."""
        self._deleted.clear()
        self._deleted_octets = 0

    def list_lines(self) -> Iterator[bytes]:
        """Scan listings, slice by slice, to be gone through before a mark changes."""
        return self._slices(self._listing.list_slice)

    def uidl_lines(self) -> Iterator[bytes]:
        """Unique-id listings, likewise."""
        return self._slices(self._listing.uidl_slice)

    def _slices(self, rendered: Callable[[int], bytes]) -> Iterator[bytes]:
        for start in range(0, len(self._listing.messages), SLICE):
            yield self._without_deleted(rendered(start), start)

    def _without_deleted(self, lines: bytes, start: int) -> bytes:
        if not self._deleted:
            return lines
        return b"".join(
            line
            for number, line in enumerate(lines.splitlines(keepends=True), start + 1)
            if number not in self._deleted
        )

    @property
    def deletes(self) -> bool:
        """Whether the device has marked anything as deleted, also if it has taken that back."""
        return self._deletes

    def retrieved_ids(self) -> set[int]:
        return self._ids(self._retrieved)

    def deleted_ids(self) -> set[int]:
        return self._ids(self._deleted)

    def sent_ids(self) -> set[int]:
        return self._ids(self._sent)

    def broken_ids(self) -> set[int]:
        """Messages that the device has begun to fetch, and that were not sent whole."""
        return self._ids(self._asked - self._sent)

    @property
    def awaits_listing(self) -> bool:
        """Whether it matters that the device gets a list of all UIDLs: of all, with none left out
        for being marked as deleted."""
        return bool(self._unconfirmed) and not self._deleted

    def passed_over_ids(self) -> set[int]:
        """Messages sent whole in a session that was cut off, which the device has now seen in the
        list of all UIDLs and has not asked for: what a program does with mail that it has."""
        if not self._uids_listed:
            return set()
        shown = {message.id for message in self._listing.messages}
        return (shown & set(self._unconfirmed)) - self._ids(self._asked)

    def _ids(self, numbers: Collection[int]) -> set[int]:
        return {self._listing.messages[number - 1].id for number in numbers}
