"""A POP3 upstream written by hand that distorts and fails as its `Quirks` say.

It shares no code with the proxy. One mailbox, any user name, the password "secret".
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.quirky.mailbox import Mailbox, TrueMail
from tests.quirky.quirks import LINES, SPELLS, Quirks
from tests.quirky.session import Session


class QuirkyUpstream:
    """Change `quirks` and `mailbox` at any time; a session keeps the messages of its login."""

    def __init__(self, quirks: Quirks | None = None) -> None:
        self.quirks = quirks or Quirks()
        self.mailbox = Mailbox()
        self.port = 0
        self.now = 0.0
        """The server's own clock, in seconds."""
        self.commands: list[str] = []
        """Every command received, passwords left out."""
        self.connections = 0
        self.last_login: float | None = None
        self.logins = 0
        self.refused = 0
        """Logins that were answered by -ERR."""
        self.reached: Counter[str] = Counter()
        """Quirks that have shown, as "field=value"."""
        self.crashed: list[BaseException] = []
        """Faults of this server itself."""
        self._tasks: set[asyncio.Task[None]] = set()

    def visible(self) -> list[TrueMail]:
        """What a session that logs in now is shown."""
        return [mail for mail in self.mailbox.mails if not mail.hidden][: self.quirks.shows]

    def listed(self) -> list[TrueMail]:
        """Those of them whose number stands in LIST or UIDL."""
        mails = self.visible()
        plain = [f"{number} 1" for number in range(1, len(mails) + 1)]
        how = self.quirks.list_lines, self.quirks.uidl_lines
        lines = {
            line.lstrip().partition(" ")[0]
            for name in how
            for line in (LINES | SPELLS)[name](plain)
        }
        return [mail for number, mail in enumerate(mails, 1) if str(number) in lines]

    def count(self, *verbs: str) -> int:
        """How many commands of these there were."""
        return sum(command.split(" ")[0] in verbs for command in self.commands)

    async def connections_left(self, within: float) -> int:
        """How many connections the other side has not closed after so many seconds."""
        if not self._tasks:
            return 0
        _, open_ = await asyncio.wait(self._tasks, timeout=within)
        return len(open_)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[QuirkyUpstream]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.get_running_loop().create_task(self._serve(Session(self, reader, writer)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, session: Session) -> None:
        try:
            await session.run()
        except ConnectionError:
            pass
        except Exception as error:
            self.crashed.append(error)
