"""Python's poplib as a device, read so exactly that every octet of the wire can be compared.

`poplib.retr` forgets what ended a line, so bodies are read from poplib's own file instead, by the
rules of RFC 1939: lines end in CRLF, one leading dot is unstuffed.
"""

from __future__ import annotations

import poplib
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from tests.e2e.devices import Endpoint, Login, PollFailed

TIMEOUT = 90.0


class Session(poplib.POP3):
    """A connection with exact octets. Made by `connect`."""

    def __init__(self, *args: Any, **options: Any) -> None:
        try:
            super().__init__(*args, **options)
        except BaseException:
            # poplib leaves the socket of a server open that hangs up instead of greeting.
            for part in ("file", "sock"):
                if hasattr(self, part):
                    getattr(self, part).close()
            raise

    def body(self, command: str) -> bytes:
        """Send the command and return its multi-line answer, unstuffed.

        Raises:
            poplib.error_proto: -ERR, or an answer that ends before its terminator.
        """
        return b"".join(self.stream(command))

    def stream(self, command: str) -> Iterator[bytes]:
        """The same line by line, as it comes."""
        self._shortcmd(command)  # type: ignore[attr-defined]
        yield from self._lines()

    def _lines(self) -> Iterator[bytes]:
        after_crlf = True
        while True:
            line = self.file.readline()
            if not line:
                raise poplib.error_proto("the connection ended within a message")
            if after_crlf and line == b".\r\n":
                return
            yield line[1:] if after_crlf and line[:1] == b"." else line
            after_crlf = line.endswith(b"\r\n")

    def uids(self) -> dict[int, str]:
        return {int(n): uid for n, uid in self._pairs("UIDL")}

    def sizes(self) -> dict[int, int]:
        return {int(n): int(size) for n, size in self._pairs("LIST")}

    def _pairs(self, command: str) -> list[tuple[str, str]]:
        lines = self.body(command).decode("ascii").splitlines()
        return [(number, rest) for number, _, rest in (line.partition(" ") for line in lines)]


class TlsSession(Session, poplib.POP3_SSL):
    """TLS from the first octet."""


def connect(endpoint: Endpoint) -> Session:
    """Connect up to where a login is due, with TLS verified."""
    if endpoint.security == "plain":
        return Session(endpoint.host, endpoint.port, timeout=TIMEOUT)
    context = ssl.create_default_context(cafile=str(endpoint.ca_file))
    if endpoint.security == "implicit":
        return TlsSession(endpoint.host, endpoint.port, timeout=TIMEOUT, context=context)
    session = Session(endpoint.host, endpoint.port, timeout=TIMEOUT)
    try:
        session.stls(context)
    except BaseException:
        hang_up(session)
        raise
    return session


@contextmanager
def logged_in(endpoint: Endpoint, login: Login) -> Iterator[Session]:
    """A session that is hung up on at the end, unless it was ended with QUIT.

    Raises:
        poplib.error_proto: the login is refused.
    """
    session = connect(endpoint)
    try:
        session.user(login.user)
        session.pass_(login.password)
        yield session
    finally:
        hang_up(session)


def hang_up(session: Session) -> None:
    """Close without QUIT."""
    with suppress(OSError):
        session.close()


class PoplibDevice:
    """Remembers a UIDL once its message is complete, as a program with a database does."""

    def __init__(self, endpoint: Endpoint, login: Login, *, delete: bool = False) -> None:
        """`delete`: DELE each message once it is fetched."""
        self.endpoint = endpoint
        self.login = login
        self.delete = delete
        self.seen: set[str] = set()
        self.by_uid: dict[str, bytes] = {}
        self.committed: list[str] = []
        """UIDLs whose DELE was followed by a QUIT that got +OK."""
        self.on_message: Callable[[int], None] = lambda count: None
        """Called after each complete message with how many this poll has fetched."""

    def poll(self) -> None:
        try:
            with logged_in(self.endpoint, self.login) as session:
                self._fetch(session)
        except (poplib.error_proto, OSError, EOFError) as error:
            raise PollFailed(str(error) or type(error).__name__) from error

    def _fetch(self, session: Session) -> None:
        uids, sizes = session.uids(), session.sizes()
        assert uids.keys() == sizes.keys()
        assert len(set(uids.values())) == len(uids), "a UIDL is shown twice"
        deleted = []
        for number, uid in uids.items():
            if uid not in self.seen:
                body = session.body(f"RETR {number}")
                assert len(body) == sizes[number], "LIST and RETR differ"
                self.seen.add(uid)
                self.by_uid[uid] = body
                self.on_message(len(self.by_uid))
            if self.delete:
                session.dele(number)
                deleted.append(uid)
        session.quit()
        self.committed += deleted

    def mails(self) -> list[bytes]:
        return list(self.by_uid.values())
