"""A simulated process: what is started under it can be killed between two steps, for good.

Membership travels in a context variable. asyncio copies the context into every task, callback and
timer, so whatever a process starts, directly or not, belongs to it, and the loop refuses to run
a handle whose process is dead. That is SIGKILL as the code under test knows it: no `finally`, no
`except CancelledError`, no callback runs any more. A step already under way goes on to its next
await, but its host's network is dead by then.

What must not outlive the process although it is no task (an open database connection with its
locks) is told by `at_crash`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar
from typing import Any, TypeVar

T = TypeVar("T")

PROCESS: ContextVar[Process | None] = ContextVar("PROCESS", default=None)


class CrashedError(Exception):
    """The process that was waited for was killed."""


class Process:
    def __init__(self, loop: asyncio.AbstractEventLoop, name: str) -> None:
        self.name = name
        self.alive = True
        self._loop = loop
        self._at_crash: list[Callable[[], None]] = []
        self._end: asyncio.Future[None] = loop.create_future()
        self._context = Context()
        self._context.run(PROCESS.set, self)

    def spawn(self, work: Coroutine[Any, Any, T], name: str | None = None) -> asyncio.Task[T]:
        """Start a task in this process."""
        if not self.alive:
            work.close()
            raise CrashedError(self.name)
        return self._loop.create_task(work, name=name, context=self._context.copy())

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` in this process and wait for its result from outside.

        Raises:
            CrashedError: the process was killed before the end.
        """
        task = self.spawn(work)
        try:
            either: set[asyncio.Future[Any]] = {task, self._end}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if not task.done():
            raise CrashedError(self.name)
        return task.result()

    def call(self, function: Callable[..., T], *args: object) -> T:
        """Call a plain function as this process, so that what it schedules belongs to it."""
        if not self.alive:
            raise CrashedError(self.name)
        return self._context.copy().run(function, *args)

    def at_crash(self, callback: Callable[[], None]) -> None:
        """Call this when the process is killed, outside of it; the last one given runs first."""
        self._at_crash.append(callback)

    def kill(self) -> None:
        """Stop everything of this process at once. Killing it twice does nothing."""
        if not self.alive:
            return
        self.alive = False
        self._end.set_result(None)
        while self._at_crash:
            self._at_crash.pop()()


def is_dead(context: Context) -> bool:
    """Whether what runs in this context belongs to a killed process."""
    process = context.get(PROCESS)
    return process is not None and not process.alive
