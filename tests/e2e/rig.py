"""One test's stage: upstream, the tap in front of it, proxies behind it, devices."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.certificates import Certificates
from tests.corpus import name_of, normalise
from tests.e2e.devices import Device, Login, PollFailed, Security
from tests.e2e.dovecot import Dovecot, User
from tests.e2e.overheard import digest
from tests.e2e.poplib_device import PoplibDevice
from tests.e2e.proxy import ProxyProcess, Table
from tests.e2e.tap import Tap

SYNC: Table = {"interval": "1h", "max_age": "0s", "login_wait": "60s"}
"""Every login syncs, and waits for it; in the background only once, at the start."""


class Rig:
    def __init__(self, folder: Path, certificates: Certificates, dovecot: Dovecot) -> None:
        self.folder = folder
        self.certificates = certificates
        self.dovecot = dovecot
        self.tap = Tap(dovecot.host, dovecot.port)
        self.proxies: list[ProxyProcess] = []

    def close(self) -> None:
        """Stop everything, whatever state it is in."""
        for proxy in self.proxies:
            proxy.kill()
        self.tap.close()

    def proxy(
        self,
        *users: User,
        sections: Mapping[str, Table] | None = None,
        upstream: Table | None = None,
        account: Table | None = None,
    ) -> ProxyProcess:
        """A running proxy that declares these users, its upstream the tap unless told otherwise.

        `sections` and `account` add to what the file says, the latter to every account.
        """
        server = {"host": self.tap.host, "port": self.tap.port, "tls": "none", **(upstream or {})}
        given = {"sync": SYNC, "upstream": server}
        for name, table in (sections or {}).items():
            given[name] = {**given.get(name, {}), **table}
        accounts = [
            {"name": user.name, "password": user.password, "upstream": server, **(account or {})}
            for user in users
        ]
        folder = self.folder / f"proxy{len(self.proxies)}"
        made = ProxyProcess(folder, self.certificates, given, accounts)
        self.proxies.append(made)
        made.start()
        return made

    def device(
        self,
        proxy: ProxyProcess,
        user: User,
        name: str,
        *,
        security: Security = "plain",
        delete: bool = False,
    ) -> PoplibDevice:
        return PoplibDevice(proxy.endpoint(security), login(user, name), delete=delete)


def login(user: User, device: str) -> Login:
    return Login(f"{user.name}+{device}", user.password)


def poll_together(*devices: Device) -> None:
    """All at the same time; returns when the last is done, raises what the first raised."""
    with ThreadPoolExecutor(len(devices)) as threads:
        for done in [threads.submit(device.poll) for device in devices]:
            done.result()


def poll_whatever_comes(*devices: Device) -> None:
    """All at the same time, some of them in vain."""
    with ThreadPoolExecutor(len(devices)) as threads:
        for done in [threads.submit(device.poll) for device in devices]:
            with contextlib.suppress(PollFailed):
                done.result()


def one_each(mails: Iterable[bytes]) -> Counter[str]:
    """What the tap counts when each of these upstream mails was fetched once."""
    return Counter(digest(normalise(raw)) for raw in mails)


def assert_same_mails(got: Sequence[bytes], wanted: Iterable[bytes]) -> None:
    """The same octets equally often, in any order; says which differ."""
    have, want = Counter(got), Counter(wanted)
    lacking = [name_of(mail) for mail in (want - have).elements()]
    beyond = [name_of(mail) for mail in (have - want).elements()]
    assert (lacking, beyond) == ([], []), f"lacks {lacking}\nhas beyond {beyond}"


def small_mails(count: int, mark: str, *, octets: int = 500) -> list[bytes]:
    """Mails that differ from each other and from those with another mark."""
    filler = b"x" * 70 + b"\r\n"
    return [
        f"Message-ID: <{mark}.{index}@example.com>\r\nSubject: {mark} {index}\r\n\r\n".encode()
        + filler * (octets // len(filler))
        for index in range(count)
    ]


def assert_only_what_is_new_comes(
    rig: Rig, user: User, device: Device, had: Sequence[bytes]
) -> list[bytes]:
    """A device that has polled once gets nothing twice, and later mail once; returns that mail."""
    asked = rig.tap.record().count("RETR")
    device.poll()
    assert rig.tap.record().count("RETR") == asked
    assert len(device.mails()) == len(had)

    later = small_mails(3, "later")
    rig.dovecot.deliver(user, *later)
    device.poll()
    assert len(device.mails()) == len(had) + len(later)
    assert rig.tap.retrs() == one_each([*had, *later])
    return later
