"""The part of asyncio's transport interface that only stores and tells."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from tests.sim.outgoing import Outgoing

Address = tuple[str, int]


class Surface(asyncio.Transport):
    def __init__(self, outgoing: Outgoing, addresses: tuple[Address, Address]) -> None:
        super().__init__()
        self._outgoing = outgoing
        self._addresses = addresses
        self._protocol: asyncio.BaseProtocol | None = None
        self._closing = self._reading_paused = False
        self.tls = False
        """Whether what is written from now on is encrypted."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        own, peer = self._addresses
        return {"sockname": own, "peername": peer, "tls": self.tls}.get(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self._protocol is not None
        return self._protocol

    def is_closing(self) -> bool:
        return self._closing

    def is_reading(self) -> bool:
        return not self._closing and not self._reading_paused

    def pause_reading(self) -> None:
        self._reading_paused = True

    def get_write_buffer_size(self) -> int:
        return self._outgoing.octets

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._outgoing.low, self._outgoing.high

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return not self.tls
