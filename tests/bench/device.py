"""A device that does nothing but ask, so that the proxy's time is what is measured."""

from __future__ import annotations

import asyncio


class BenchDevice:
    """One session."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def log_in(cls, address: str, username: str, password: str) -> BenchDevice:
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=2**26)
        device = cls(reader, writer)
        await reader.readline()
        await device.ask(f"USER {username}")
        await device.ask(f"PASS {password}")
        return device

    async def ask(self, line: str) -> str:
        """A command with an answer of one line.

        Raises:
            RuntimeError: the answer is -ERR.
        """
        self._writer.write(line.encode() + b"\r\n")
        answer = (await self._reader.readline()).decode()
        if not answer.startswith("+OK"):
            raise RuntimeError(f"{line.split()[0]}: {answer}")
        return answer

    async def lines(self, command: str) -> int:
        """A command with a multi-line answer; returns how many lines it has."""
        await self.ask(command)
        body = await self._reader.readuntil(b"\r\n.\r\n")
        return body.count(b"\r\n") - 1

    async def quit(self) -> None:
        await self.ask("QUIT")
        self._writer.close()
