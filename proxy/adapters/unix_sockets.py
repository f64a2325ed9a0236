"""Unix sockets: made for whom they are meant from the first instant, under paths of any length."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ADDRESS_LIMIT = 100
"""Octets; the kernel's limit is 104 to 108."""

DESCRIPTORS = "/proc/self/fd"

CONTROL_SOCKET = "control.sock"
CONTROL_MODE = 0o600


@contextmanager
def address_of(path: Path) -> Iterator[str]:
    """What the kernel takes for the path of a socket, however long that is; holds inside alone.

    Raises:
        OSError: it is too long, and this system has no other name for it.
    """
    plain = os.path.abspath(path)
    if len(os.fsencode(plain)) <= ADDRESS_LIMIT:
        yield plain
        return
    if not os.path.isdir(DESCRIPTORS):
        raise OSError(
            errno.ENAMETOOLONG,
            f"the path of a socket has at most {ADDRESS_LIMIT} octets on this system: "
            "give its folder a shorter name, or a symbolic link with one",
            plain,
        )
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"{DESCRIPTORS}/{folder}/{path.name}"
    finally:
        os.close(folder)


def bind_unix(path: Path, mode: int) -> socket.socket:
    """A socket that nobody but those of `mode` can ever open.

    Raises:
        OSError: something is there already, or it cannot be made.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Linux makes the file with the mode of the socket; elsewhere the folder has to keep others
        # out until it is set. A mask of the process would hold for other files made meanwhile.
        with suppress(OSError):
            os.fchmod(sock.fileno(), mode)
        with address_of(path) as address:
            sock.bind(address)
            os.chmod(address, mode)
    except BaseException:
        sock.close()
        raise
    return sock


def bind_control(data_dir: Path) -> socket.socket:
    """The operator's door. The caller holds the directory's lock, so an old one is stale.

    Raises:
        OSError
    """
    path = data_dir / CONTROL_SOCKET
    path.unlink(missing_ok=True)
    return bind_unix(path, CONTROL_MODE)


def remove_control(data_dir: Path) -> None:
    (data_dir / CONTROL_SOCKET).unlink(missing_ok=True)


@contextmanager
def control_address(data_dir: Path) -> Iterator[str]:
    """Where the proxy that runs on this directory listens for its operator.

    Raises:
        ConnectionError: none runs, or what is there is not to be believed.
        OSError: it cannot be looked at.
    """
    path = data_dir / CONTROL_SOCKET
    try:
        found, folder = os.lstat(path), os.stat(data_dir)
    except FileNotFoundError:
        raise ConnectionError("no proxy runs here") from None
    # Who owns the data may answer for it: root asks a proxy that runs as its own user.
    if not stat.S_ISSOCK(found.st_mode) or found.st_uid not in (os.geteuid(), 0, folder.st_uid):
        raise ConnectionError(f"{path} belongs to somebody else")
    with address_of(path) as address:
        yield address
