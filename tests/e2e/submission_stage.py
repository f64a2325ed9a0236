"""A stage for what goes wrong with sending: an obedient SMTP server, the tap, a proxy, devices."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager

from tests.e2e.devices import Endpoint, Login, Security
from tests.e2e.proxy import ProxyProcess, Table
from tests.e2e.rig import Rig, login
from tests.e2e.sending import own_mails
from tests.e2e.smtp_tap import SmtpTap
from tests.e2e.submitter import Submitter
from tests.e2e.waiting import eventually
from tests.smtp_server import SmtpServer, smtp_server


@contextmanager
def obedient_server(password: str) -> Iterator[SmtpServer]:
    """On a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="smtp", daemon=True)
    thread.start()
    serving = smtp_server(password=password)
    try:
        yield asyncio.run_coroutine_threadsafe(serving.__aenter__(), loop).result(30)
    finally:
        asyncio.run_coroutine_threadsafe(_end(serving), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()


async def _end(serving: AbstractAsyncContextManager[SmtpServer]) -> None:
    """The conversations under way as well."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await serving.__aexit__(None, None, None)


class Stage:
    """An account with the devices laptop, which sends, and phone; any server behind the tap."""

    def __init__(
        self,
        rig: Rig,
        tap: SmtpTap,
        password: str,
        *,
        sections: Mapping[str, Table] | None = None,
        smtp: Table | None = None,
    ) -> None:
        """`sections` and `smtp` add to what the file says, the latter to what the account does."""
        self.rig = rig
        self.tap = tap
        self.user = rig.dovecot.add_user(password=password)
        given: dict[str, Table] = {
            "smtp": {"listen": ["127.0.0.1:0"], "listen_tls": ["127.0.0.1:0"]},
            "sync": {"max_age": "1h"},
            "limits": {"login_delay": "0s"},
        }
        for name, table in (sections or {}).items():
            given[name] = {**given.get(name, {}), **table}
        server = {"host": tap.host, "port": tap.port, "tls": "none", **(smtp or {})}
        self.proxy: ProxyProcess = rig.proxy(self.user, sections=given, account={"smtp": server})
        self.devices = {name: rig.device(self.proxy, self.user, name) for name in NAMES}

    def login(self, device: str = "laptop") -> Login:
        return login(self.user, device)

    def endpoint(self, security: Security = "plain") -> Endpoint:
        return self.proxy.smtp_endpoint(security)

    def stranger(self, security: Security = "plain") -> Submitter:
        return Submitter(self.endpoint(security))

    def laptop(self) -> Submitter:
        """Logged in."""
        made = self.stranger()
        made.hello(self.login())
        return made

    def copies(self) -> dict[str, list[bytes]]:
        """What each device has had of copies, after another poll."""
        return {name: own_mails(device, self.proxy) for name, device in self.devices.items()}

    def logged(self, event: str, count: int = 1) -> None:
        """Wait until the proxy has logged this event so often."""
        eventually(
            lambda: self.proxy.log().count(f"event={event} ") >= count,
            what=event,
            otherwise=self.proxy.log,
        )


SECRET = "planted-päßword-upstream"
NAMES = ("laptop", "phone")
NO_COPIES: dict[str, list[bytes]] = {"laptop": [], "phone": []}


class ObedientStage(Stage):
    """Behind the tap, a server that does as it is told."""

    def __init__(
        self,
        rig: Rig,
        tap: SmtpTap,
        upstream: SmtpServer,
        *,
        sections: Mapping[str, Table] | None = None,
        smtp: Table | None = None,
    ) -> None:
        super().__init__(rig, tap, upstream.password, sections=sections, smtp=smtp)
        self.upstream = upstream


@contextmanager
def obedient_stage(
    rig: Rig, *, sections: Mapping[str, Table] | None = None, smtp: Table | None = None
) -> Iterator[ObedientStage]:
    with obedient_server(SECRET) as upstream, SmtpTap("127.0.0.1", upstream.port) as tap:
        yield ObedientStage(rig, tap, upstream, sections=sections, smtp=smtp)
