"""The proxy between a quirky upstream and devices that remember UIDLs; the promises as checks.

A `Play` is one house that may be restarted, its upstream, and its devices. Time passes only when
told to. Every check is DESIGN section 3 in terms of the true mailbox.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from proxy.domain.facts import Unexpected
from proxy.domain.policy import AccountPolicy, TlsMode, UpstreamServer
from tests.quirky.mailbox import TrueMail, name_of
from tests.quirky.quirks import Quirks
from tests.quirky.upstream import QuirkyUpstream
from tests.services.house import START, House, SetClock, declared, house, policy_for

PATIENCE = 20.0
"""Seconds that the proxy waits for the upstream, where silence is not what is tested."""
LITTLE_PATIENCE = 0.3


@dataclass
class Device:
    """A mail program that keeps what it gets and asks for no UIDL twice."""

    name: str
    got: dict[str, bytes] = field(default_factory=dict)
    """UIDL → octets."""

    def names(self) -> Counter[int]:
        return Counter(map(name_of, self.got.values()))


class Play:
    def __init__(self, folder: Path, upstream: QuirkyUpstream, policy: AccountPolicy) -> None:
        self.upstream = upstream
        self.mailbox = upstream.mailbox
        self.mailbox.on_expunge = self._expunged
        self.devices: dict[str, Device] = {}
        self.patience = PATIENCE
        self.problems: list[str] = []
        """Promises that broke while something else was going on."""
        self.ambiguous: set[int] = set()
        """Names of mails that may come twice, since nothing tells that they are the same."""
        self._folder = folder
        self._policy = policy
        self._time = START
        self._stack = AsyncExitStack()
        self._home: House | None = None

    @property
    def home(self) -> House:
        assert self._home is not None
        return self._home

    @property
    def follows(self) -> bool:
        return self._policy.retention.follow_upstream_removals

    async def start(self) -> None:
        opened = house(
            self._folder, self._policy, declared(self._policy), clock=SetClock(self._time)
        )
        self._home = await self._stack.enter_async_context(opened)

    async def stop(self) -> None:
        if self._home is not None:
            self._check_house()
        await self._stack.aclose()
        self._home = None

    async def restart(self) -> None:
        """All that is only remembered is forgotten."""
        await self.stop()
        await self.start()

    def later(self, seconds: float) -> None:
        """So much time passes, for the upstream and for all that the proxy reckons with."""
        self._time += seconds
        self.home.clock.time = self._time
        self.upstream.now += seconds
        for state in self.home.core.syncs._states.values():
            state.not_before -= seconds
            state.synced_at = None if state.synced_at is None else state.synced_at - seconds
            if state.logged_in_at is not None:
                state.logged_in_at -= seconds
        for server in self.home.core.syncs._servers.values():
            server.trust.distrusted_until -= seconds

    # --- devices --------------------------------------------------------------------------------

    async def poll(self, *names: str) -> None:
        """Each of these devices, or every one there is, fetches what it has not got; then QUIT."""
        for name in names or tuple(self.devices):
            await self._poll(self.device(name))
            self.check()

    async def look(self, name: str) -> None:
        """The device logs in and takes nothing."""
        self.device(name)
        await self.home.uids(f"alice+{name}")

    def device(self, name: str) -> Device:
        return self.devices.setdefault(name, Device(name))

    async def _poll(self, device: Device) -> None:
        server = self.home.core.syncs._servers["127.0.0.1", self.upstream.port]
        server.patience = self.patience
        maildrop = await self.home.login(f"alice+{device.name}")
        try:
            view = maildrop.view
            lines = b"".join(view.uidl_lines()).decode("ascii").splitlines()
            uids = [line.split(" ")[1] for line in lines]
            assert len(set(uids)) == len(uids), f"a UIDL twice in one view: {uids}"
            for number, uid in enumerate(uids, 1):
                message = view.message(number)
                with closing(maildrop.open(message)) as reader:
                    octets = reader.read(message.octets + 1)
                assert len(octets) == message.octets, f"LIST says {message.octets} of {octets!r}"
                before = device.got.setdefault(uid, octets)
                assert before == octets, f"other octets under the UIDL {uid}: {octets!r}"
                view.mark_retrieved(number)
            await maildrop.commit()
        finally:
            maildrop.close()

    # --- the promises ---------------------------------------------------------------------------

    def check(self) -> None:
        """What must hold at any time."""
        assert not self.problems, self.problems
        assert not self.upstream.crashed, self.upstream.crashed
        self._check_house()
        copies = self.mailbox.copies()
        for device in self.devices.values():
            for octets in device.got.values():
                name = name_of(octets)
                sent = any(octets in mail.forms for mail in self.mailbox.named(name))
                assert sent, f"{device.name} got {octets[:400]!r}"
            twice = {n for n, count in device.names().items() if count > copies[n]} - self.ambiguous
            assert not twice, f"{device.name} has these mails twice: {twice}"

    def _check_house(self) -> None:
        found = self.home.facts.of(Unexpected)
        assert not found, [repr(fact.error) for fact in found]

    def lacking(self) -> dict[str, list[int]]:
        """Device → names of mails that are to be had and that it has not got, once for each copy.

        To be had is what the upstream lists, and what has once come whole. Where removals are to be
        followed, it is not what a person has taken away, nor what the upstream shows no more since
        it shows so many only, and has come to put others first.
        """
        shown = Counter(mail.name for mail in self.upstream.listed())
        behind = [mail for mail in self.mailbox.mails if not mail.hidden and self.follows]
        behind = behind[len(self.upstream.visible()) :]
        come = Counter(
            mail.name
            for mail in self.mailbox.ever
            if mail.whole and not (self.follows and mail.dropped)
            if not any(mail is other for other in behind)
        )
        return {
            device.name: sorted(missing.elements())
            for device in self.devices.values()
            if (missing := (shown | come) - device.names())
        }

    def fetched_again(self) -> dict[int, int]:
        """Name → how often one mail came whole, of those that came more than once."""
        return {mail.serial: mail.whole for mail in self.mailbox.ever if mail.whole > 1}

    def _fetched(self) -> int:
        return sum(mail.whole for mail in self.mailbox.ever)

    def _expunged(self, mail: TrueMail) -> None:
        needed = Counter(m.name for m in self.mailbox.expunged)[mail.name] + 1
        for device in self.devices.values():
            if device.names()[mail.name] < needed:
                self.problems.append(f"mail {mail.serial} was deleted, {device.name} lacks it")

    async def settle(self, *, rounds: int = 12, pause: float = 4 * 3600) -> None:
        """The upstream makes no more trouble; after so many syncs nobody may lack anything.

        With the defaults that takes two days: one is what the proxy waits before it tries again
        what an upstream could not do.
        """
        self.upstream.quirks.calm()
        state: object = None
        for _ in range(rounds):
            self.later(pause)
            await self.poll()
            before, state = state, (self.upstream.visible(), self._fetched())
            if state == before and not self.lacking():
                break
        assert not self.lacking(), f"after {rounds} quiet syncs devices lack {self.lacking()}"


@asynccontextmanager
async def play(
    folder: Path, quirks: Quirks | None = None, *, tls: TlsMode = "none", **sections: Any
) -> AsyncIterator[Play]:
    """A play whose account has this policy; failed sessions are followed by the next at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("proxy.services.syncs.RECONNECT_PAUSE", 0.0)
        patch.setattr("proxy.services.syncs.FOLLOW_UP_PAUSE", 0.0)
        for room in ("conversation", "upstream"):
            patch.setattr(f"proxy.services.{room}.LISTING_LIMIT", 512 * 1024)
        async with QuirkyUpstream(quirks).listening() as upstream:
            server = UpstreamServer("127.0.0.1", upstream.port, tls)
            policy = policy_for(upstream.port, upstream=server, **sections)
            made = Play(folder, upstream, policy)
            await made.start()
            try:
                yield made
                left = await upstream.connections_left(LITTLE_PATIENCE + 5.0)
                assert not left, f"{left} connections to the upstream were never closed"
            finally:
                await made.stop()
