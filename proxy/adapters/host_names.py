"""Reverse names of addresses, asked of the system's resolver and remembered for a while."""

from __future__ import annotations

import asyncio
import socket
from collections import OrderedDict

TIMEOUT = 2.0
"""Seconds to wait for the resolver; a login waits meanwhile."""
KEPT = 300.0
"""Seconds a name, or that there is none, is remembered."""
REMEMBERED = 1000


class HostNames:
    def __init__(self) -> None:
        self._names: OrderedDict[str, tuple[float, str | None]] = OrderedDict()

    async def of(self, address: str) -> str | None:
        """None: it has none, or none in time."""
        now = asyncio.get_running_loop().time()
        until, name = self._names.get(address, (0.0, None))
        if now >= until:
            name = await _look_up(address)
            self._names[address] = now + KEPT, name
            if len(self._names) > REMEMBERED:
                self._names.popitem(last=False)
        return name


async def _look_up(address: str) -> str | None:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(TIMEOUT):
            name, _ = await loop.getnameinfo((address, 0), socket.NI_NAMEREQD)
    except (OSError, TimeoutError):
        return None
    return name
