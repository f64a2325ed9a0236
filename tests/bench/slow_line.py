"""Fetching over a line of 50 ms round trip, side by side with mpop, which pipelines well.

Both programs are timed alike, by the line: from their connect to their close.
"""

from __future__ import annotations

import asyncio
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from proxy.app import upstream_network
from proxy.demo.upstream import Mailbox, MailboxServer
from tests.bench.big_mailbox import MESSAGES, mail, tell
from tests.bench.delayed_link import DELAY, DelayedLink, Heard
from tests.certificates import Certificates, make_certificates
from tests.e2e.clients import Mpop
from tests.e2e.devices import Endpoint, Login
from tests.e2e.dovecot import Dovecot, DovecotUnusable, User
from tests.e2e.proxy import ProxyProcess
from tests.e2e.rig import small_mails

RUNS = 5
FETCHED = 500
OCTETS = 10_000
PATIENCE = 1800.0
"""Seconds for one session."""


class PipeliningMpop(Mpop):
    def write(self, name: str, text: str) -> Path:
        return super().write(name, text + "pipelining on\n" if name == "mpoprc" else text)

    def remember(self, uids: Sequence[str]) -> None:
        """As if it had fetched these already."""
        lines = [f" {len(uids)} {self.endpoint.host} {self.login.user}", *sorted(uids)]
        self.write("uidls", "\n".join(lines) + "\n")


async def measure() -> None:
    if shutil.which(Mpop.name) is None:
        tell("not measured", "no mpop")
        return
    asked = await asyncio.to_thread(
        subprocess.run, [Mpop.name, "--version"], capture_output=True, text=True, check=True
    )
    tell("to compare with", " ".join(asked.stdout.split()[:3]))
    tell("the line's round trip", f"{2 * DELAY * 1000:.0f} ms")
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        certificates = make_certificates(folder)
        await asyncio.to_thread(_measure_fetching, folder, certificates)
        await _measure_polling(folder, certificates)


# --- fetching -----------------------------------------------------------------------------------


def _measure_fetching(folder: Path, certificates: Certificates) -> None:
    try:
        dovecot = Dovecot(certificates)
    except DovecotUnusable as error:
        tell(f"fetching not measured: {error}", "")
        return
    theirs: list[Heard] = []
    ours: list[Heard] = []
    with dovecot, DelayedLink(dovecot.host, dovecot.port) as link:
        for run in range(RUNS):
            place = folder / f"fetching-{run}"
            place.mkdir()
            theirs.append(_fetch_by_mpop(place, link, _full_mailbox(dovecot)))
            ours.append(_fetch_by_proxy(place, link, _full_mailbox(dovecot), certificates))
    assert all(heard.count("RETR") == FETCHED for heard in theirs + ours)
    _compare(f"{FETCHED} messages of {OCTETS // 1000} kB from Dovecot", theirs, ours)


def _full_mailbox(dovecot: Dovecot) -> User:
    user = dovecot.add_user()
    dovecot.deliver(user, *small_mails(FETCHED, user.name, octets=OCTETS))
    return user


def _fetch_by_mpop(folder: Path, link: DelayedLink, user: User) -> Heard:
    device = PipeliningMpop(
        folder / "mpop", Endpoint(link.host, link.port), Login(user.name, user.password)
    )
    device.poll()
    assert len(device.files()) == FETCHED
    return link.next()


def _fetch_by_proxy(
    folder: Path, link: DelayedLink, user: User, certificates: Certificates
) -> Heard:
    proxy = _proxy(folder, link, user, certificates)
    # With the start the sync in the background begins.
    proxy.start()
    try:
        return link.next(within=PATIENCE)
    finally:
        proxy.stop()


def _proxy(folder: Path, link: DelayedLink, user: User, certificates: Certificates) -> ProxyProcess:
    account = {
        "name": user.name,
        "password": user.password,
        "upstream": {"host": link.host, "port": link.port, "tls": "none"},
    }
    sections = {"sync": {"interval": "1d", "max_age": "1d"}, "log": {"level": "warning"}}
    return ProxyProcess(folder / "proxy", certificates, sections, [account])


# --- polling ------------------------------------------------------------------------------------


async def _measure_polling(folder: Path, certificates: Certificates) -> None:
    mailbox = Mailbox("big", b"secret")
    for number in range(MESSAGES):
        mailbox.deliver(mail(number))
    network = upstream_network()
    upstream = await network.listen("127.0.0.1:0", MailboxServer(mailbox, network).session)
    port = int(upstream.addresses[0].rpartition(":")[2])
    try:
        await asyncio.to_thread(_poll_by_turns, folder, certificates, port, list(mailbox.mails))
    finally:
        await upstream.close()


def _poll_by_turns(
    folder: Path, certificates: Certificates, upstream: int, uids: Sequence[str]
) -> None:
    user = User("big", "secret")
    # Everything is fetched over a fast line, which then turns into a slow one.
    with DelayedLink("127.0.0.1", upstream, delay=0.0) as fast:
        proxy = _proxy(folder, fast, user, certificates)
        proxy.start()
        fast.next(within=PATIENCE)
        port = fast.port
    theirs: list[Heard] = []
    ours: list[Heard] = []
    listing: list[Heard] = []
    try:
        with DelayedLink("127.0.0.1", upstream, listen=port) as link:
            device = PipeliningMpop(
                folder / "mpop", Endpoint(link.host, link.port), Login("big", "secret")
            )
            device.remember(uids)
            for _ in range(RUNS):
                device.poll()
                theirs.append(link.next())
                proxy.cli_json("account", "sync", "big")
                ours.append(link.next())
            for _ in range(RUNS):
                # What it knows of an unchanged mailbox it knows in memory alone.
                proxy.restart()
                listing.append(link.next(within=PATIENCE))
    finally:
        proxy.stop()
    assert all(heard.count("RETR") == 0 for heard in theirs + ours + listing)
    what = f"polling {len(uids)} messages, none new"
    _compare(what, theirs, ours)
    _compare(f"{what}, after a restart", theirs, listing)


def _compare(what: str, theirs: list[Heard], ours: list[Heard]) -> None:
    medians = [statistics.median(heard.seconds for heard in runs) for runs in (theirs, ours)]
    tell(f"{what}: mpop", f"{medians[0]:.2f} s")
    tell("  the proxy", f"{medians[1]:.2f} s")
    tell("  the proxy's time by mpop's", f"{medians[1] / medians[0]:.2f}")
    trips = [statistics.median(heard.round_trips for heard in runs) for runs in (theirs, ours)]
    tell("  round trips after the login: mpop's, the proxy's", f"{trips[0]:.0f}, {trips[1]:.0f}")
