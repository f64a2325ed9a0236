"""Telling the service manager how we are, by the protocol of sd_notify(3)."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import structlog

START_TICK = 5.0
"""Seconds between two signs of life before we are ready."""

START_ROOM = 30.0
"""Seconds that each of them asks for. A store that is brought up to date takes what it takes."""

SEND_TIMEOUT = 1.0
"""Seconds. The manager reads at once, unless it is stuck itself."""


class ServiceManager:
    """Whoever started us and wants to hear; every call does nothing where nobody does.

    Nothing is raised: a word that does not arrive is the manager's to deal with, by its timeouts.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        """`environ` as systemd.exec(5) sets it: NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID."""
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self._watchdog = _watchdog(environ)
        self._is_ready = False

    def ready(self, status: str) -> None:
        self._is_ready = True
        self._say("READY=1", f"STATUS={status}")

    @contextmanager
    def reloading(self, status: Callable[[], str]) -> Iterator[None]:
        """Around a reload. `status` is asked for when it is over."""
        # The manager compares this with when it asked, so the clock must be its own.
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._say("RELOADING=1", f"MONOTONIC_USEC={now}", "STATUS=reloading the configuration")
        try:
            yield
        finally:
            self.ready(status())

    def stopping(self) -> None:
        self._say("STOPPING=1", "STATUS=letting sessions end")

    @contextmanager
    def kept_informed(self) -> Iterator[None]:
        """Give signs of life from the running loop, and from nowhere else: a loop that is blocked
        gives none and gets us restarted, whereas a full disk, which no restart cures, does not.
        """
        beats = [asyncio.create_task(self._ask_for_time())]
        if self._watchdog:
            beats.append(asyncio.create_task(self._feed_watchdog(self._watchdog / 2)))
        try:
            yield
        finally:
            for beat in beats:
                beat.cancel()

    def _say(self, *assignments: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(SEND_TIMEOUT)
                sender.sendto("\n".join(assignments).encode(), self._address)
        except OSError as error:
            structlog.get_logger().warning("the service manager hears nothing", reason=str(error))

    async def _ask_for_time(self) -> None:
        room = f"EXTEND_TIMEOUT_USEC={START_ROOM * 1_000_000:.0f}"
        while not self._is_ready:
            self._say(room)
            await asyncio.sleep(START_TICK)

    async def _feed_watchdog(self, every: float) -> None:
        while True:
            self._say("WATCHDOG=1")
            await asyncio.sleep(every)


def _address(given: str) -> str:
    """For the kernel; "" where there is none, or where it is of a kind that only machines have."""
    if given.startswith("@"):
        return "\0" + given[1:]
    return given if given.startswith("/") else ""


def _watchdog(environ: Mapping[str, str]) -> float:
    """Seconds of silence after which we are restarted; 0: we may be silent."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    microseconds = environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1_000_000 if microseconds.isdigit() else 0.0
