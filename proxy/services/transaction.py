"""What a device asks once it has logged in: the TRANSACTION state of RFC 1939 §5."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from proxy.domain.errors import ProxyError, StoreUnavailable
from proxy.services.face import Maildrop
from proxy.services.replies import reply_to
from proxy.services.transfer import Transfer, fetches
from proxy.wire import pop3_events as pop3
from proxy.wire.line_server import OUTPUT_LIMIT
from proxy.wire.pop3_server import Pop3Server


class Transaction:
    """Answers commands from a maildrop, through the machine, without waiting for anything."""

    def __init__(self, machine: Pop3Server, maildrop: Maildrop) -> None:
        self.maildrop = maildrop
        self._machine = machine
        self._transfer: Transfer | None = None
        self._listing: Iterator[bytes] | None = None
        """What is still to be sent of a LIST or UIDL."""
        self._lists_uids = False
        self.lacked_a_message = False
        """Whether the last answer was that a message cannot be had from the store."""
        self.on_their_way: list[Callable[[], None]] = []
        """Marks to be made once the kernel has what is now among the machine's output; for who
        writes that to take."""

    @property
    def sending(self) -> bool:
        """Whether a message or a listing is on its way; `send_on` sends its next part."""
        return self._transfer is not None or self._listing is not None

    @property
    def comparing(self) -> bool:
        """Whether what is on its way is read on without being sent."""
        return self._transfer is not None and self._transfer.comparing

    def answer(self, event: pop3.Event) -> None:
        self.lacked_a_message = False
        try:
            self._answer(event)
        except ProxyError as error:
            self._machine.err(*reply_to(error))
            self.lacked_a_message = isinstance(error, StoreUnavailable)

    def send_on(self) -> None:
        """Raises:
        StoreUnavailable: the message cannot be read on, and no reply can say so any more.
        """
        if self._listing is not None:
            self._list_on(self._listing)
            return
        assert self._transfer is not None  # noqa: S101 - the caller has looked at `sending`
        self._pass_on(self._transfer, self._transfer.next_part())

    def close(self) -> None:
        if self._transfer is not None:
            self._transfer.close()
        self.maildrop.close()

    def _answer(self, event: pop3.Event) -> None:
        machine, view = self._machine, self.maildrop.view
        match event:
            case pop3.Stat():
                machine.ok(f"{view.count} {view.octets}")
            case pop3.List(number=None):
                machine.body_start(f"{view.count} messages ({view.octets} octets)")
                self._list_on(view.list_lines())
            case pop3.List(number=int(number)):
                machine.ok(f"{number} {view.message(number).octets}")
            case pop3.Uidl(number=None):
                machine.body_start("unique-id listing follows")
                self._lists_uids = True
                self._list_on(view.uidl_lines())
            case pop3.Uidl(number=int(number)):
                machine.ok(f"{number} {view.message(number).uid}")
            case pop3.Retr(number=number):
                self._send_message(number)
            case pop3.Top(number=number, lines=lines):
                self._send_message(number, lines)
            case pop3.Dele(number=number):
                view.mark_deleted(number)
                machine.ok(f"message {number} deleted")
            case pop3.Rset():
                view.reset()
                machine.ok(f"{view.count} messages ({view.octets} octets)")

    def _list_on(self, slices: Iterator[bytes]) -> None:
        for lines in slices:
            self._machine.body_part(lines)
            if self._machine.output_octets >= OUTPUT_LIMIT:
                self._listing = slices
                return
        self._machine.body_end()
        self._listing = None
        if self._lists_uids and self.maildrop.view.awaits_listing:
            self.on_their_way.append(self.maildrop.view.mark_listed)
        self._lists_uids = False

    def _send_message(self, number: int, top_lines: int | None = None) -> None:
        message = self.maildrop.view.message(number)
        if fetches(top_lines):
            self.maildrop.view.mark_asked(number)
        transfer = Transfer(number, message, self.maildrop.open(message), top_lines)
        try:
            # +OK is said only with the first octets in hand.
            part = transfer.next_part()
        except ProxyError:
            transfer.close()
            raise
        self._machine.body_start(f"{message.octets} octets" if top_lines is None else "top follows")
        self._pass_on(transfer, part)

    def _pass_on(self, transfer: Transfer, part: bytes) -> None:
        self._machine.body_part(part)
        if not transfer.done:
            self._transfer = transfer
            return
        self._machine.body_end()
        if transfer.counts:
            self.maildrop.view.mark_retrieved(transfer.number)
            self.on_their_way.append(partial(self.maildrop.view.mark_sent, transfer.number))
        self._transfer = None
        transfer.close()
