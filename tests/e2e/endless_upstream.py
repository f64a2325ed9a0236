"""An upstream with one message of any size, made up as it is sent, so that it takes no memory."""

from __future__ import annotations

import hashlib
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager

LINE = b"." + b"x" * 74 + b"\r\n"
BLOCK = LINE * 4000
"""Each line begins with a dot, so that every one is stuffed on both wires."""
HEADER = b"Message-ID: <big@example.org>\r\nSubject: big\r\n\r\n"


class BigMessage:
    """HEADER and so many BLOCKs."""

    def __init__(self, blocks: int) -> None:
        self.blocks = blocks
        self.octets = len(HEADER) + blocks * len(BLOCK)

    def digest(self) -> str:
        """SHA-256 of the unstuffed octets."""
        digest = hashlib.sha256(HEADER)
        for _ in range(self.blocks):
            digest.update(BLOCK)
        return digest.hexdigest()


@contextmanager
def serving(message: BigMessage) -> Iterator[int]:
    """A server with this message; gives its port."""
    stuffed = BLOCK.replace(b"\r\n.", b"\r\n..")
    stuffed = b"." + stuffed
    answers = {
        b"CAPA": b"+OK\r\nUIDL\r\nTOP\r\nPIPELINING\r\n.\r\n",
        b"STAT": b"+OK 1 %d\r\n" % message.octets,
        b"LIST": b"+OK\r\n1 %d\r\n.\r\n" % message.octets,
        b"UIDL": b"+OK\r\n1 big\r\n.\r\n",
    }

    class Session(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"+OK ready\r\n")
            for line in self.rfile:
                command = line.split()[0].upper()
                if line.upper().startswith(b"UIDL 1"):
                    self.wfile.write(b"+OK 1 big\r\n")
                elif command == b"RETR":
                    self.wfile.write(b"+OK\r\n" + HEADER)
                    for _ in range(message.blocks):
                        self.wfile.write(stuffed)
                    self.wfile.write(b".\r\n")
                else:
                    self.wfile.write(answers.get(command, b"+OK\r\n"))
                if command == b"QUIT":
                    return

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Session) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()
            thread.join()
