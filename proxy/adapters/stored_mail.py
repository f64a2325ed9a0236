"""The blobs of a data directory, read beside a proxy that may be running on it.

Blobs never change and are named by their digest, so a reader needs no lock: one is there whole, or
it was purged.
"""

from __future__ import annotations

import hashlib
import mailbox
import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from email.parser import BytesHeaderParser
from email.policy import default
from pathlib import Path
from typing import BinaryIO, Protocol

from proxy.adapters.blobs import blob_path
from proxy.adapters.new_files import new_file
from proxy.domain.errors import StoreUnavailable
from proxy.domain.plain_text import printable

HEADER_LIMIT = 64 * 1024
"""Octets of a message that are searched for its header."""

LONGEST_FIELD = 1000
"""Characters of a field that are decoded. The standard parser takes quadratic time on some: three
quarters of a minute for a From field of 64 KiB."""


class StoredMail:
    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / "blobs"

    def octets(self, sha256: str) -> bytes:
        """The message whole, as it came.

        Raises:
            StoreUnavailable: it is missing, damaged, or not for this user to read.
        """
        try:
            octets = blob_path(self._folder, bytes.fromhex(sha256)).read_bytes()
        except FileNotFoundError:
            raise StoreUnavailable(f"message {sha256} is not in the store any more") from None
        except OSError as error:
            raise StoreUnavailable(f"message {sha256}: {error}") from None
        if hashlib.sha256(octets).hexdigest() != sha256:
            raise StoreUnavailable(f"message {sha256} is damaged: run `pop3-sync-proxy verify`")
        return octets

    def header(self, sha256: str) -> dict[str, str]:
        """From, Subject, Date and Message-ID, decoded, "" for what is missing; nothing raises."""
        try:
            with blob_path(self._folder, bytes.fromhex(sha256)).open("rb") as file:
                start = file.read(HEADER_LIMIT)
        except OSError:
            start = b""
        message = BytesHeaderParser(policy=default).parsebytes(start.partition(b"\r\n\r\n")[0])
        raw: dict[str, str] = {}
        for name, value in message.raw_items():
            raw.setdefault(name.lower(), value)
        names = ("From", "Subject", "Date", "Message-ID")
        return {name: _text(name, raw.get(name.lower(), "")) for name in names}


def _text(name: str, raw: str) -> str:
    """A header field on one line, of characters that a terminal may be given."""
    try:
        value = str(default.header_fetch_parse(name, raw[:LONGEST_FIELD]))
    except Exception:
        # The standard parser has bugs on what spammers write.
        value = ""
    return printable(value).strip()


class Mailbox(Protocol):
    def add(self, octets: bytes, received_at: float) -> None: ...


class _Mbox:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def add(self, octets: bytes, received_at: float) -> None:
        separator = f"From MAILER-DAEMON {time.asctime(time.gmtime(received_at))}\n".encode()
        text = b"\n" + octets.replace(b"\r\n", b"\n").removesuffix(b"\n")
        quoted = text.replace(b"\nFrom ", b"\n>From ").removeprefix(b"\n")
        self._file.write(separator + quoted + b"\n\n")


class _Maildir:
    def __init__(self, path: Path) -> None:
        self._box = mailbox.Maildir(path, create=False)
        self._path = path

    def add(self, octets: bytes, received_at: float) -> None:
        file = self._path / "new" / self._box.add(octets.replace(b"\r\n", b"\n"))
        file.chmod(0o600)
        # The time of the file is when the message was received.
        os.utime(file, (received_at, received_at))

    def close(self) -> None:
        self._box.close()


@contextmanager
def new_mbox(path: Path) -> Iterator[Mailbox]:
    """An mbox file (mboxrd's quoting is the reader's guess: "From " gets one ">").

    Raises:
        FileExistsError
    """
    with new_file(path) as file:
        yield _Mbox(file)


@contextmanager
def new_maildir(path: Path) -> Iterator[Mailbox]:
    """Raises:
    FileExistsError
    """
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        raise FileExistsError(f"{path} exists already") from None
    for name in ("tmp", "new", "cur"):
        (path / name).mkdir(mode=0o700)
    with closing(_Maildir(path)) as box:
        yield box
