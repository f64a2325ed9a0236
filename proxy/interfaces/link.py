"""The one place that touches a transport, since a connection may die between any two calls.

Between its death and `connection_lost`, and where that is never told, the methods of transports
raise whatever their library stumbles over: uvloop a RuntimeError, asyncio's TLS an AttributeError,
a socket an OSError. None of it is a fault of the program: the connection is lost, and no more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

DEAD = (RuntimeError, OSError, AttributeError)
"""What the methods of a transport raise once it is dead."""


@contextmanager
def told_as_reset(transport: asyncio.Transport) -> Iterator[None]:
    """For what others do with a transport: where they stumble over its death, it is an OSError."""
    try:
        yield
    except (RuntimeError, AttributeError) as error:
        try:
            dead = transport.is_closing()
        except DEAD:
            dead = True
        if not dead:
            raise
        raise ConnectionResetError("the connection broke") from error


class Link:
    """A transport whose methods, named as asyncio names them, never raise."""

    def __init__(
        self,
        transport: asyncio.Transport,
        lost: Callable[[Exception | None], None],
        *,
        under: asyncio.Transport | None = None,
    ) -> None:
        """`lost`: the protocol's `connection_lost`, called as well where only a method has told;
        it may be called twice. `under`: what a TLS transport writes to.
        """
        self.transport = transport
        self._under = under if under is not transport else None
        self._lost: Callable[[Exception | None], None] | None = lost
        self._dead = False

    def over(self) -> None:
        """`connection_lost` has come. The link lets go of it: a protocol that is held by what it
        holds would wait for the garbage collector."""
        self._lost = None

    def write(self, data: bytes) -> None:
        try:
            self.transport.write(data)
        except DEAD as error:
            self._die(error)

    def pause_reading(self) -> None:
        try:
            self.transport.pause_reading()
        except DEAD as error:
            self._die(error)

    def resume_reading(self) -> None:
        try:
            self.transport.resume_reading()
        except DEAD as error:
            self._die(error)

    def set_write_buffer_limits(self, *, high: int, low: int) -> None:
        try:
            self.transport.set_write_buffer_limits(high=high, low=low)
        except DEAD as error:
            self._die(error)

    def close(self) -> None:
        try:
            self.transport.close()
        except DEAD as error:
            self._die(error)

    def abort(self) -> None:
        try:
            self.transport.abort()
        except DEAD as error:
            self._die(error)

    def get_extra_info(self, name: str) -> Any:
        """None: it is not known, or no more."""
        try:
            return self.transport.get_extra_info(name)
        except DEAD as error:
            self._die(error)
            return None

    def is_closing(self) -> bool:
        """Also when only the connection below TLS is."""
        if self._dead:
            return True
        try:
            under = self._under
            return self.transport.is_closing() or (under is not None and under.is_closing())
        except DEAD as error:
            self._die(error)
            return True

    def get_write_buffer_size(self) -> int:
        """Octets that the kernel has not taken yet, also of those that TLS has written on.

        0 tells nothing once `is_closing`: buffers are dropped then.
        """
        try:
            size = self.transport.get_write_buffer_size()
            if self._under is not None:
                size += self._under.get_write_buffer_size()
        except DEAD as error:
            self._die(error)
            return 0
        return size

    def _die(self, error: Exception) -> None:
        if self._dead:
            return
        self._dead = True
        with suppress(*DEAD):
            self.transport.abort()
        if self._lost is not None:
            # Not at once: the caller is in the middle of something.
            asyncio.get_running_loop().call_soon(self._lost, error)
