"""Which listeners are open: those that the configuration names, also after it has changed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

from proxy.interfaces.world import Listener

Key = tuple[str, str]
"""Service and address, such as ("pop3", "127.0.0.1:1110"), as the configuration says it."""

Wanted = dict[Key, Callable[[], Awaitable[Listener]]]
"""How each is opened."""


class Listeners:
    def __init__(self) -> None:
        self._open: dict[Key, Listener] = {}
        self._ways: Wanted = {}

    @property
    def addresses(self) -> list[tuple[str, str]]:
        """Services with their addresses as bound, real ports included."""
        return [
            (service, address)
            for (service, _), listener in self._open.items()
            for address in listener.addresses
        ]

    async def follow(self, wanted: Wanted) -> None:
        """Close what is no longer wanted and open what is new; sessions go on.

        Raises:
            OSError: one cannot be opened; those that were open are open again.
        """
        # Closed first, since "0.0.0.0:110" cannot be opened beside "127.0.0.1:110".
        gone = {key: self._ways[key] for key in self._open if key not in wanted}
        await self._close(gone)
        new = {key: way for key, way in wanted.items() if key not in self._open}
        try:
            await self._add(new)
        except OSError:
            await self._close(new)
            with suppress(OSError):
                await self._add(gone)
            raise

    async def close(self) -> None:
        await self._close(dict(self._open))

    async def _add(self, ways: Wanted) -> None:
        for key, way in ways.items():
            self._open[key] = await way()
            self._ways[key] = way

    async def _close(self, keys: Mapping[Key, object]) -> None:
        for key in keys:
            if (listener := self._open.pop(key, None)) is not None:
                await listener.close()
