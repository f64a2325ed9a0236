"""Messages that the proxy writes to the people behind an account's devices."""

from __future__ import annotations

from proxy.domain.model import Account, Blob
from proxy.domain.notice import compose
from proxy.domain.trouble_texts import Telling
from proxy.interfaces.store import Store
from proxy.interfaces.world import World

TOKEN = 16
"""Octets of chance in a Message-ID."""


class Notices:
    def __init__(self, store: Store, world: World) -> None:
        self._store = store
        self._entropy = world.entropy

    async def write(
        self, account: Account, about: str, telling: Telling, *, ending: str = "", at: float
    ) -> Blob:
        """A finished blob, which no maildrop shows so far. `about` is for filters; `ending` is one
        more paragraph."""
        writer = self._store.new_blob()
        await writer.write(
            compose(
                subject=telling.subject,
                body=f"{telling.body}\n{ending}" if ending else telling.body,
                kind="notice",
                trouble=about,
                token=self._entropy.token(TOKEN).hex(),
                at=at,
                to=[account.name],
            )
        )
        return await writer.finish()
