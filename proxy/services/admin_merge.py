"""Behind `account merge` and `account distinct`: accounts that are, or seem to be, one mailbox."""

from __future__ import annotations

from dataclasses import asdict

from proxy.domain.errors import BadRequest, Temporary
from proxy.domain.model import Account
from proxy.interfaces.store import Store
from proxy.interfaces.world import Clock
from proxy.services.admin_names import Names, Row
from proxy.services.maildrops import Maildrops
from proxy.services.rights import Rights
from proxy.services.submissions import Submissions
from proxy.services.syncs import Syncs
from proxy.services.tokens import KeptSecrets


class MergeCommand:
    def __init__(
        self,
        store: Store,
        clock: Clock,
        names: Names,
        maildrops: Maildrops,
        syncs: Syncs,
        submissions: Submissions,
        kept: KeptSecrets,
        rights: Rights,
    ) -> None:
        self._store = store
        self._clock = clock
        self._names = names
        self._maildrops = maildrops
        self._syncs = syncs
        self._submissions = submissions
        self._kept = kept
        self._rights = rights

    async def look(self, account: str, into: str) -> Row:
        """What `run` would do.

        Raises:
            BadRequest, NotFound: as `run`.
        """
        source, target = await self._both(account, into)
        merging = await self._store.look_at_merge(source.id, target.id)
        return {"account": source.name, "into": target.name, **asdict(merging)}

    async def run(self, account: str, into: str) -> Row:
        """Make `account` a part of `into`; no device gets anything twice, and none loses anything.

        Raises:
            NotFound: one of them does not exist.
            BadRequest: they are one already, or the configuration declares the one that is to go.
            Temporary: one of them is in use.
        """
        source, target = await self._both(account, into)
        first, second = sorted((source.id, target.id))
        with self._syncs.none_of(source.name, target.name):
            async with self._maildrops.gate(first), self._maildrops.gate(second):
                await self._check_idle(source, target)
                merging = await self._store.merge_accounts(
                    source.id, target.id, at=self._clock.now()
                )
        names = source.name, target.name
        self._rights.end("changed", lambda right: right.account in names)
        for name in names:
            self._syncs.forget(name)
            self._submissions.forget(name)
        await self._kept.forget(source.name)
        return {"account": source.name, "into": target.name, **asdict(merging)}

    async def tell_apart(self, account: str, other: str) -> Row:
        """An operator says that these are two mailboxes, whatever their mail looks like.

        Raises:
            NotFound: one of them does not exist.
            BadRequest: they are one account.
        """
        first, second = await self._names.account(account), await self._names.account(other)
        if first.id == second.id:
            raise BadRequest(f"{account} and {other} are one account")
        await self._store.tell_apart(first.id, second.id)
        return {"account": first.name, "other": second.name}

    async def _both(self, account: str, into: str) -> tuple[Account, Account]:
        source, target = await self._names.account(account), await self._names.account(into)
        if source.id == target.id:
            raise BadRequest(f"{account} and {into} are one account already")
        if await self._names.is_declared(source):
            raise BadRequest(
                f"{source.name} is declared: merge the other one into it, or take its [[account]] "
                "out and reload first"
            )
        return source, target

    async def _check_idle(self, *accounts: Account) -> None:
        sending = {left.account for left in await self._store.sendings()}
        for account in accounts:
            reading = self._maildrops.has_sessions(account.id)
            if reading or self._submissions.senders[account.id] or account.name in sending:
                raise Temporary(f"{account.name} is in use; try again when its devices are done")
