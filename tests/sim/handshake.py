"""A TLS handshake under way at one end: who waits for it, and for how long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context

TIMEOUT = 30.0
"""Seconds, as in the real adapter."""
CLIENT_HELLO = b"\x16\x03\x01\x00\xf4\x01\x00\x00\xf0\x03\x03"
"""What a protocol reads that meets a handshake and does not expect one."""


class Handshake:
    def __init__(self, context: Context, timed_out: Callable[[], None], *, server: bool) -> None:
        loop = asyncio.get_running_loop()
        self.server = server
        self.done: asyncio.Future[None] = loop.create_future()
        self._timer = loop.call_later(TIMEOUT, timed_out, context=context)

    def end(self, error: OSError | None) -> None:
        self._timer.cancel()
        if self.done.done():
            return  # whoever waited was cancelled
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)

    def forget(self) -> None:
        """Its process was killed: nobody is to be told."""
        self._timer.cancel()
