"""Listening sockets: TCP on IPv4 and IPv6, Unix, and those that systemd hands over."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from proxy.adapters.unix_sockets import address_of, bind_unix

BACKLOG = 1024
"""Connections that may wait to be accepted: a whole office starting up at nine."""

UNIX_MODE = 0o660
"""Of a Unix socket: its owner and group."""

FIRST_DESCRIPTOR = 3
"""SD_LISTEN_FDS_START of sd_listen_fds(3)."""

Factory = Callable[[], asyncio.Protocol]


class SocketListener:
    """Listening sockets under one address; see `interfaces.world.Listener`."""

    def __init__(self, servers: list[asyncio.Server], path: Path | None = None) -> None:
        self._servers = servers
        self._path = path
        self.addresses = (
            (f"unix:{path}",)
            if path is not None
            else tuple(_bound(s) for server in servers for s in server.sockets)
        )

    async def close(self) -> None:
        for server in self._servers:
            server.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)


async def open_listener(address: str, factory: Factory) -> SocketListener:
    """Raises:
    OSError: the address cannot be bound, or systemd has opened nothing under that name.
    """
    kind, _, rest = address.partition(":")
    if kind == "unix":
        return await _open_unix(Path(rest), factory)
    if kind == "systemd":
        return await _open_systemd(rest, factory)
    host, _, port = address.rpartition(":")
    server = await asyncio.get_running_loop().create_server(
        factory, host.strip("[]") or None, int(port), backlog=BACKLOG
    )
    return SocketListener([server])


async def _open_unix(path: Path, factory: Factory) -> SocketListener:
    _remove_stale(path)
    sock = bind_unix(path, UNIX_MODE)
    server = await asyncio.get_running_loop().create_unix_server(
        factory, sock=sock, backlog=BACKLOG
    )
    return SocketListener([server], path)


def _remove_stale(path: Path) -> None:
    """Remove a socket on which nobody listens any more.

    Raises:
        OSError: somebody does, or it is no socket.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(f"{path} is there already, and is no socket")
    with socket.socket(socket.AF_UNIX) as probe, address_of(path) as address:
        try:
            probe.connect(address)
        except ConnectionRefusedError:
            path.unlink()
        else:
            raise OSError(f"another program listens on {path}")


async def _open_systemd(name: str, factory: Factory) -> SocketListener:
    loop = asyncio.get_running_loop()
    servers = []
    for descriptor, given in _handed_over():
        if given != name:
            continue
        os.set_inheritable(descriptor, False)
        # A duplicate, since the listener closes its own.
        sock = socket.socket(fileno=os.dup(descriptor))
        create = loop.create_unix_server if sock.family == socket.AF_UNIX else loop.create_server
        servers.append(await create(factory, sock=sock, backlog=BACKLOG))
    if not servers:
        names = ", ".join(sorted({given for _, given in _handed_over()})) or "nothing"
        raise OSError(
            f"systemd has opened no socket named {name} (FileDescriptorName= of the .socket unit); "
            f"it has opened {names}"
        )
    return SocketListener(servers)


def _handed_over() -> list[tuple[int, str]]:
    """Descriptors with their names, by the protocol of sd_listen_fds(3)."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    count = int(os.environ.get("LISTEN_FDS", "0"))
    names += ["unknown"] * (count - len(names))
    return [(FIRST_DESCRIPTOR + index, names[index]) for index in range(count)]


def _bound(sock: Any) -> str:
    name = sock.getsockname()
    if not isinstance(name, tuple):
        return f"unix:{name}"
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
