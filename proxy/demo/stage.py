"""Sets up the demo: mailbox, upstream server, configuration, and the proxy in front of it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from proxy.app import App, running, upstream_network
from proxy.config.load import load
from proxy.demo.mails import samples
from proxy.demo.upstream import Mailbox, MailboxServer

USERNAME = "demo@example.com"
PASSWORD = "demo"  # noqa: S105 - of a mailbox that exists for the demo alone

_CONFIG = """\
data_dir = "data"

[upstream]
host = "127.0.0.1"
port = {port}
tls = "none"

[sync]
max_age = "1s"

[alerts]
notices = false
"""


@dataclass(frozen=True, slots=True)
class Stage:
    app: App
    mailbox: Mailbox
    config: Path

    @property
    def pop3_address(self) -> str:
        return dict(self.app.addresses)["pop3"]

    def instructions(self) -> str:
        """How to point a mail program at the demo, and what it will see."""
        host, _, port = self.pop3_address.rpartition(":")
        count = len(self.mailbox.mails)
        return f"""\
A demo mailbox with {count} messages is behind this proxy. Nothing of it is kept.

In the mail program of the first computer, add a POP3 account:
  server     {host}, port {port}, no encryption
  user name  {USERNAME}+desktop
  password   {PASSWORD}
In the second one, the same with the user name
  user name  {USERNAME}+laptop

Each device sees all {count} messages, gets each of them once, and may delete what it likes
without taking it from the other. Without a mail program at hand:
  curl -u {USERNAME}+laptop:{PASSWORD} pop3://{self.pop3_address}/1

What the proxy knows:  pop3-sync-proxy status --config {self.config}
Stop it with Ctrl-C.
"""


@asynccontextmanager
async def set_up(settings: Mapping[str, str] | None = None) -> AsyncIterator[Stage]:
    """A running demo. `settings` are POP3_SYNC_… variables; by default the process's own."""
    mailbox = Mailbox(USERNAME, PASSWORD.encode())
    for mail in samples():
        mailbox.deliver(mail)
    network = upstream_network()
    listener = await network.listen("127.0.0.1:0", MailboxServer(mailbox, network).session)
    with tempfile.TemporaryDirectory(prefix="pop3-sync-proxy-demo-") as folder:
        config = Path(folder) / "proxy.toml"
        config.write_text(_CONFIG.format(port=listener.addresses[0].rpartition(":")[2]))
        try:
            async with running(load(config, os.environ if settings is None else settings)) as app:
                yield Stage(app, mailbox, config)
        finally:
            await listener.close()
