"""An event loop for simulation: virtual time, a seeded order of tasks, and no way to the machine.

Time stands still while anything is ready and jumps to the next timer when nothing is. Plain
callbacks run in the order in which they were scheduled, as asyncio promises. Task steps do not:
of those that are ready together, the seed chooses the order, and a step may come after callbacks
that were scheduled behind it, but never before one that was scheduled ahead of it.

Tasks and futures are hashed by their number, not by their address: TaskGroup and asyncio.wait keep
them in sets, and would otherwise cancel and finish them in another order in every run.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextvars import Context
from itertools import count
from typing import Any, Protocol, TypeVar, TypeVarTuple, cast

from tests.sim.errors import DeadlockError, EndlessError, UnhandledError
from tests.sim.outside import OUTSIDE, refusal
from tests.sim.process import PROCESS, is_dead
from tests.sim.trace import Trace, name_of

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

MAX_STEPS = 1_000_000
"""Handles run before a simulation counts as one that never ends."""
START = 86_400.0
"""The loop's time at the start, in seconds; not zero, which hides "never yet" from "just now"."""


class SimTask(asyncio.Task[T]):
    """A task that is hashed and named by its number."""

    def __init__(
        self,
        work: Coroutine[Any, Any, T],
        *,
        loop: SimLoop,
        name: str | None = None,
        context: Context | None = None,
    ) -> None:
        # asyncio puts the task into a set before this returns, and hashes it to do so.
        self.number = next(loop.numbers)
        self.work = work
        label = name or getattr(work, "__qualname__", type(work).__qualname__)
        super().__init__(work, loop=loop, name=f"{label}#{self.number}", context=context)
        self.process = context.get(PROCESS) if context else PROCESS.get()

    def __hash__(self) -> int:
        return self.number


class SimFuture(asyncio.Future[T]):
    """A future that is hashed by its number."""

    def __init__(self, *, loop: SimLoop) -> None:
        self.number = next(loop.numbers)
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self.number


class _Scheduled(Protocol):
    """What asyncio's Handle holds on every supported version, and does not show."""

    _callback: Callable[..., object]
    _context: Context
    _cancelled: bool

    def _run(self) -> None: ...


class SimLoop(asyncio.BaseEventLoop):
    """Run with `run_until_complete`, end with `tests.sim.ending.end`, which leaves no warnings."""

    _ready: deque[_Scheduled]
    _stopping: bool

    def __init__(self, seed: object, *, max_steps: int = MAX_STEPS) -> None:
        self.numbers = count(1)
        self.trace = Trace()
        self.steps = 0
        self.max_steps = max_steps
        self.failures: list[dict[str, Any]] = []
        self.tasks: dict[int, SimTask[Any]] = {}
        """Every task not known to be done. A killed task is never done, and must be kept: were it
        collected, its coroutine would be closed and its `finally` blocks would run."""
        self._prune_at = 1024
        self._now = START
        self._timers: list[tuple[float, int, _Scheduled]] = []
        self._graveyard: list[object] = []
        self._luck = random.Random(f"{seed}/schedule")
        super().__init__()
        self.set_debug(False)
        self.set_exception_handler(lambda _, context: self.failures.append(context))

    # --- time -----------------------------------------------------------------------------------

    def time(self) -> float:
        return self._now

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        # The number keeps timers of one instant in order; asyncio's own heap does not.
        heapq.heappush(self._timers, (when, next(self.numbers), cast("_Scheduled", timer)))
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Cancelled timers are dropped when their time comes."""

    # --- running --------------------------------------------------------------------------------

    def _run_once(self) -> None:
        self._advance()
        batch = self._ordered(list(self._ready))
        self._ready.clear()
        for handle in batch:
            if handle._cancelled:
                continue
            if is_dead(handle._context):
                self._graveyard.append(handle)
                continue
            self._note(handle)
            handle._run()
            self._check()

    def _advance(self) -> None:
        """Make due timers ready, jumping to the first one if nothing else can run."""
        timers = self._timers
        while timers and (timers[0][2]._cancelled or is_dead(timers[0][2]._context)):
            self._graveyard.append(heapq.heappop(timers))
        if not self._stopping and not any(self._can_run(handle) for handle in self._ready):
            if not timers:
                raise DeadlockError(f"nothing will happen any more; waiting:\n{self.waiting()}")
            self._now = max(self._now, timers[0][0])
        while timers and timers[0][0] <= self._now:
            self._ready.append(heapq.heappop(timers)[2])

    def _can_run(self, handle: _Scheduled) -> bool:
        return not handle._cancelled and not is_dead(handle._context)

    def _ordered(self, batch: list[_Scheduled]) -> list[_Scheduled]:
        ordered: list[_Scheduled] = []
        steps: list[_Scheduled] = []
        for handle in batch:
            if _task_of(handle) is not None:
                steps.append(handle)
                continue
            if steps:
                self._luck.shuffle(steps)
                kept = self._luck.randint(0, len(steps))
                ordered += steps[kept:]
                del steps[kept:]
            ordered.append(handle)
        self._luck.shuffle(steps)
        return ordered + steps

    def _note(self, handle: _Scheduled) -> None:
        self.steps += 1
        if self.steps > self.max_steps:
            raise EndlessError(f"not done after {self.max_steps} steps; waiting:\n{self.waiting()}")
        task = _task_of(handle)
        self.trace.note(self._now, task.get_name() if task else name_of(handle._callback))

    def _check(self) -> None:
        if self.failures:
            context = self.failures[0]
            raise UnhandledError(str(context["message"])) from context.get("exception")

    def waiting(self) -> str:
        """The tasks that are not done, and the line at which each waits."""
        return "\n".join(_where(task) for task in self.tasks.values() if not task.done())

    # --- tasks and futures ----------------------------------------------------------------------

    def create_task(  # type: ignore[override]  # the stub differs between Python versions
        self,
        work: Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: Context | None = None,
        **_: Any,
    ) -> SimTask[T]:
        task = SimTask(work, loop=self, name=name, context=context)
        self.tasks[task.number] = task
        if len(self.tasks) > self._prune_at:
            self.forget_done()
            self._prune_at = 2 * len(self.tasks) + 1024
        return task

    def create_future(self) -> SimFuture[Any]:
        return SimFuture(loop=self)

    def forget_done(self) -> None:
        """Let go of finished tasks; one whose exception nobody has seen is a failure."""
        for task in [task for task in self.tasks.values() if task.done()]:
            if getattr(task, "_log_traceback", False):
                task._log_traceback = False  # asyncio would log it at some later collection
                # Whoever was about to look may have been killed with it.
                if task.process is None or task.process.alive:
                    message = f"nobody looked at the exception of {task.get_name()}"
                    self.failures.append({"message": message, "exception": task.exception()})
            del self.tasks[task.number]

    def _asyncgen_finalizer_hook(self, generator: AsyncGenerator[Any, Any]) -> None:
        # asyncio's own goes through call_soon_threadsafe. None is closed after the end, and none
        # of a killed process before it: the graveyard keeps those.
        if self.is_running():
            self.call_soon(self.create_task, generator.aclose())

    # --- the machine, out of reach --------------------------------------------------------------

    def _process_events(self, event_list: object) -> None:
        """There is no selector."""

    def _write_to_self(self) -> None:
        """There is no other thread to be woken by."""


def _task_of(handle: _Scheduled) -> SimTask[Any] | None:
    """The task whose step this handle is."""
    owner = getattr(handle._callback, "__self__", None)
    if isinstance(owner, SimTask) and getattr(handle._callback, "__name__", "") != "cancel":
        return owner
    return None


def _where(task: SimTask[Any]) -> str:
    inner: Any = task.work
    while getattr(inner, "cr_await", None) is not None and hasattr(inner.cr_await, "cr_frame"):
        inner = inner.cr_await
    frame = getattr(inner, "cr_frame", None)
    place = f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else "no frame"
    process = task.process
    state = f" in {process.name}{'' if process.alive else ' (killed)'}" if process else ""
    return f"  {task.get_name()}{state} at {place}"


for _name in OUTSIDE:
    setattr(SimLoop, _name, refusal(_name))
