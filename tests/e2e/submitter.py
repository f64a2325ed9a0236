"""A program that hands in mail, and writes exactly the octets that it is told to."""

from __future__ import annotations

import base64
import socket
import ssl
import struct
from types import TracebackType
from typing import Self

from tests.e2e.devices import Endpoint, Login

TIMEOUT = 60.0

MAIL = b"From: alice@example.org\r\nTo: bob@example.org\r\nSubject: hello\r\n\r\nText\r\n"


def mail(mark: str, *, octets: int = 0) -> bytes:
    """One that differs from those with another mark."""
    return b"Message-ID: <%b@example.org>\r\n" % mark.encode() + MAIL + b"x" * octets + b"\r\n"


def plain(login: Login) -> bytes:
    return b"AUTH PLAIN " + base64.b64encode(f"\0{login.user}\0{login.password}".encode())


class Submitter:
    def __init__(self, endpoint: Endpoint, source: str = "127.0.0.1") -> None:
        """Up to before the greeting; `source` is the address it comes from."""
        self.socket = socket.create_connection(("127.0.0.1", endpoint.port), TIMEOUT, (source, 0))
        self._ca_file = str(endpoint.ca_file)
        if endpoint.security == "implicit":
            self._secure()
        self._read = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._read.close()
        self.socket.close()

    # --- octets ---------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self) -> str:
        """The next one, its lines joined by LF; "" when the connection has ended."""
        lines: list[str] = []
        while not lines or lines[-1][3:4] == "-":
            try:
                line = self._read.readline()
            except ConnectionError:
                return ""
            if not line.endswith(b"\r\n"):
                return ""
            lines.append(line.decode("utf-8", "surrogateescape")[:-2])
        return "\n".join(lines)

    def say(self, line: bytes) -> str:
        self.write(line + b"\r\n")
        return self.answer()

    def hang_up(self) -> None:
        """At once and rudely."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._read.close()
        self.socket.close()

    def start_tls(self) -> None:
        """The handshake alone."""
        self._read.close()
        self._secure()
        self._read = self.socket.makefile("rb")

    def _secure(self) -> None:
        context = ssl.create_default_context(cafile=self._ca_file)
        self.socket = context.wrap_socket(self.socket, server_hostname="localhost")

    # --- steps ----------------------------------------------------------------------------------

    def hello(self, login: Login | None = None) -> str:
        """Greeting, EHLO and a login; returns what is offered."""
        assert self.answer().startswith("220 ")
        offers = self.say(b"EHLO client")
        if login is not None:
            assert self.say(plain(login)).startswith("235 ")
        return offers

    def begin(self, *recipients: str) -> None:
        """A mail, up to its recipients."""
        assert self.say(b"MAIL FROM:<alice@example.org>").startswith("250 ")
        for recipient in recipients or ("bob@example.org",):
            assert self.say(b"RCPT TO:<" + recipient.encode() + b">").startswith("250 ")

    def content(self, octets: bytes) -> str:
        """DATA and the content as it stands, not stuffed; the last answer."""
        assert self.say(b"DATA").startswith("354 ")
        return self.say(octets + b".")

    def send(self, octets: bytes = MAIL) -> str:
        """A whole mail; the first answer that is none to go on, or the last."""
        for line in (b"MAIL FROM:<alice@example.org>", b"RCPT TO:<bob@example.org>", b"DATA"):
            answer = self.say(line)
            if answer[:1] not in ("2", "3"):
                return answer
        return self.say(octets + b".")
