"""Messages that came whole, made durable many at a time while the next ones come in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from proxy.domain.errors import StoreUnavailable
from proxy.domain.model import Account, Fetched
from proxy.domain.plan import Entry
from proxy.interfaces.store import Store
from proxy.interfaces.world import Clock
from proxy.services.kept_back import KeptBack, Whole


class Batches:
    """Of one sync."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        account: Account,
        kept: KeptBack,
        settle: Callable[[Entry], None],
    ) -> None:
        """`settle` is told of each message that is durable, or kept back, or let go."""
        self.kept = kept
        self.failed: StoreUnavailable | None = None
        """Why a batch could not be made durable. All that is added from then on is kept back."""
        self.overflow = False
        """Something that was to be kept back could not be."""
        self._store = store
        self._clock = clock
        self._account = account
        self._settle = settle
        self._batch: list[tuple[Fetched, Whole]] = []
        self._octets = 0
        self._since = 0.0
        self._writing: asyncio.Task[None] | None = None

    async def add(self, whole: Whole, fetched: Fetched) -> None:
        if self.failed is not None:
            await self._keep_back(whole)
            return
        if not self._batch:
            self._since = asyncio.get_running_loop().time()
        self._batch.append((fetched, whole))
        self._octets += fetched.blob.octets

    async def renew(self, whole: Whole) -> bool:
        """Whether one that was kept back can be added again; if not, it is taken care of."""
        try:
            if self.failed is None and await whole.writer.renew():
                return True
        except StoreUnavailable as error:
            self.failed = error
        if self.failed is None:
            await whole.writer.abort()
        else:
            await self._keep_back(whole)
        return False

    async def end(self) -> None:
        """All that was added is durable, or kept back."""
        try:
            await self.flush()
        finally:
            try:
                await self._written()
            finally:
                # After an error that is nobody's in particular.
                batch, self._batch = self._batch, []
                for _, whole in batch:
                    await whole.writer.abort()

    def reaches(self, messages: int, octets: int, seconds: float) -> bool:
        """Whether the batch that is coming in has so much of anything."""
        return bool(self._batch) and (
            len(self._batch) >= messages
            or self._octets >= octets
            or asyncio.get_running_loop().time() - self._since >= seconds
        )

    async def flush(self) -> None:
        """Begin to make the batch durable; the one before is over then."""
        await self._written()
        batch, self._batch, self._octets = self._batch, [], 0
        if batch:
            work = self._make_durable(batch)
            self._writing = asyncio.get_running_loop().create_task(work)

    async def _make_durable(self, batch: list[tuple[Fetched, Whole]]) -> None:
        try:
            if self.failed is None:
                fetched = [one for one, _ in batch]
                await self._store.add_messages(self._account.id, fetched, at=self._clock.now())
        except StoreUnavailable as error:
            self.failed = error
        except BaseException:
            for _, whole in batch:
                await whole.writer.abort()
            raise
        for _, whole in batch:
            if self.failed is None:
                self._settle(whole.entry)
            else:
                await self._keep_back(whole)

    async def _keep_back(self, whole: Whole) -> None:
        self._settle(whole.entry)
        if not await self.kept.keep(self._account.name, whole):
            self.overflow = True

    async def _written(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            await writing
