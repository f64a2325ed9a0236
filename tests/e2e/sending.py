"""A stage for sending: Exim as the account's SMTP server, a proxy before it, devices behind."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from contextlib import contextmanager

from tests.e2e.devices import Endpoint, Login, Security
from tests.e2e.exim import Arrived, Exim
from tests.e2e.poplib_device import PoplibDevice
from tests.e2e.proxy import ProxyProcess, Table
from tests.e2e.rig import Rig, login
from tests.e2e.senders import connect
from tests.e2e.waiting import eventually

PREFIX = "pop3-sync-proxy."
"""What the UIDLs of the proxy's own messages begin with."""

MARK = b"X-POP3-Sync-Proxy: sent\r\n"


class Sending:
    """One account with the devices laptop, which sends, phone and desk."""

    def __init__(
        self,
        rig: Rig,
        exim: Exim,
        *,
        tls: str = "starttls",
        limits: Table | None = None,
        **smtp: object,
    ) -> None:
        """`smtp` adds to what the account says of its SMTP server, `limits` to [smtp]."""
        self.exim = exim
        self.rig = rig
        self.user = rig.dovecot.add_user()
        exim.add_user(self.user)
        exim.forget()
        server: Table = {
            "host": exim.host,
            "port": exim.tls_port if tls == "implicit" else exim.port,
            "tls": tls,
            "ca_file": str(rig.certificates.ca_file),
            **smtp,
        }
        self.proxy = rig.proxy(
            self.user,
            sections={
                "smtp": {
                    "listen": ["127.0.0.1:0"],
                    "listen_tls": ["127.0.0.1:0"],
                    **(limits or {}),
                },
            },
            account={"smtp": server},
        )
        self.devices = {
            name: rig.device(self.proxy, self.user, name) for name in ("laptop", "phone", "desk")
        }
        # A device that is not there yet when a mail is sent has it in its backlog.
        for device in self.devices.values():
            device.poll()

    @property
    def login(self) -> Login:
        return login(self.user, "laptop")

    def endpoint(self, security: Security = "starttls") -> Endpoint:
        return self.proxy.smtp_endpoint(security)

    @contextmanager
    def session(self) -> Iterator[smtplib.SMTP]:
        """The laptop, logged in."""
        with connect(self.endpoint()) as session:
            session.login(self.login.user, self.login.password)
            yield session

    def arrived(self, count: int) -> list[Arrived]:
        """The mail that Exim has delivered, by recipient, once there is so much of it."""
        eventually(
            lambda: len(self.exim.arrived()) >= count,
            what=f"{count} mails to arrive",
            otherwise=lambda: self.exim.log() + self.proxy.log(),
        )
        found = sorted(self.exim.arrived(), key=lambda each: each.recipient)
        assert len(found) == count, found
        return found

    def copies(self, name: str) -> list[bytes]:
        """What a device has had of the proxy's own messages, after another poll."""
        return own_mails(self.devices[name], self.proxy)

    def all_copies(self) -> dict[str, list[bytes]]:
        return {name: self.copies(name) for name in self.devices}


def own_mails(device: PoplibDevice, proxy: ProxyProcess) -> list[bytes]:
    """What it has had of the messages that the proxy makes itself, after another poll."""
    device.endpoint = proxy.endpoint()
    device.poll()
    return [mail for uid, mail in device.by_uid.items() if uid.startswith(PREFIX)]


NO_COPIES: dict[str, list[bytes]] = {"laptop": [], "phone": [], "desk": []}


def copy_of(mail: bytes, *, device: str = "laptop", blind: str = "") -> bytes:
    """What the other devices get; `blind` is a recipient that the header does not name."""
    bcc = f"Bcc: <{blind}>\r\n" if blind else ""
    return MARK + f"X-POP3-Sync-Proxy-Device: {device}\r\n{bcc}".encode() + mail
