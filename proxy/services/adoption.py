"""Taking messages in again that no row names: what `verify --adopt` does.

First all declared accounts are synced: what upstream still has comes back under the UIDL that
devices remember, and is set aside no longer. Only what is left then is taken in.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection

from proxy.domain.errors import BadRequest, NotFound, StoreUnavailable
from proxy.domain.model import Account, Fetched, Upstream
from proxy.interfaces.store import Store
from proxy.interfaces.world import Clock
from proxy.services.admin_names import Names, Report, Row

REPORT_EVERY = 100
"""Messages."""

Sync = Callable[[], Awaitable[list[Row]]]
"""Syncs all declared accounts; "failure" of each says why, or nothing."""

NOT_BELIEVED = (
    "upstream lists less than was there, which is not believed so far: run this again once all is "
    "listed, or in some hours"
)


class _Contents:
    """What an account has already, also in another form: servers change headers."""

    def __init__(self) -> None:
        self._contents: set[bytes | None] = set()
        self._headers: set[bytes | None] = set()

    async def load(self, store: Store, account: Account) -> None:
        for message in await store.known(account.id):
            self._contents.add(message.content_digest)
            self._headers.add(message.header_digest)

    def have(self, orphan: Fetched) -> bool:
        if orphan.content_digest is not None:
            return orphan.content_digest in self._contents
        return orphan.header_digest is not None and orphan.header_digest in self._headers

    def add(self, orphan: Fetched) -> None:
        self._contents.add(orphan.content_digest)
        self._headers.add(orphan.header_digest)


class Adoption:
    """`run` it once."""

    def __init__(self, store: Store, clock: Clock, names: Names, sync: Sync) -> None:
        self._store = store
        self._clock = clock
        self._names = names
        self._sync = sync
        self._had = _Contents()

    async def run(self, report: Report, account: str) -> Row:
        """`account`, if given, is whose mail it is where nothing else tells.

        Raises:
            BadRequest: there is no such account.
        """
        target = await self._target(account)
        is_declared = target is not None and await self._names.is_declared(target)
        await self._store.set_aside()
        synced, failures = await self._synced()
        # One that is synced at its next login may have them yet: that sync will tell.
        upstream = Upstream.EXPUNGED if is_declared else Upstream.PRESENT
        if target is not None and is_declared and target.name not in synced:
            target = None
        if target is not None:
            await self._had.load(self._store, target)
        row: Row = {"adopted": 0, "known": 0, "untold": 0, "damaged": [], "unreadable": []}
        row["failures"] = failures
        digests = await self._store.orphans()
        for number, digest in enumerate(digests):
            if number % REPORT_EVERY == 0:
                await report(number, len(digests))
            try:
                orphan = await self._store.orphan(digest)
                if orphan is None:
                    row["damaged"].append(digest.hex())
                else:
                    row[await self._adopt(orphan, target, upstream)] += 1
            except NotFound:
                # A sync has just brought it, or somebody has removed it.
                continue
            except StoreUnavailable as error:
                row["unreadable"].append(f"{digest.hex()}: {error}")
        return row

    async def _target(self, account: str) -> Account | None:
        try:
            return await self._names.account(account) if account else None
        except NotFound as error:
            raise BadRequest(str(error)) from None

    async def _synced(self) -> tuple[Collection[str], list[str]]:
        """Accounts that were, and why others were not."""
        # What was listed and not fetched keeps nothing out: it may lack the very room that the
        # orphans take. It is recognised when it comes.
        reasons = {
            row["account"]: row["failure"] or (NOT_BELIEVED if row["doubted"] else "")
            for row in await self._sync()
        }
        synced = {account for account, reason in reasons.items() if not reason}
        return synced, [f"{account}: {reason}" for account, reason in reasons.items() if reason]

    async def _adopt(self, orphan: Fetched, target: Account | None, upstream: Upstream) -> str:
        known = target is not None and self._had.have(orphan)
        account_id = None if target is None or known else target.id
        if await self._store.adopt(orphan, account_id, upstream=upstream, at=self._clock.now()):
            self._had.add(orphan)
            return "adopted"
        return "known" if known else "untold"
