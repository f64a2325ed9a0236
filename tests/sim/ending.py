"""The end of a simulated loop: leftovers are cancelled, the killed are buried.

Cancelled tasks get to run their `finally` blocks, as under asyncio.run. Killed ones must not, but
their coroutines cannot be kept for ever, and Python closes a coroutine that it collects. So they
are closed here, in the order of their creation, after everything else: their network is dead, the
loop does not run, and what their `finally` blocks raise is swallowed. Whoever compares files does
so inside the simulation, before this.
"""

from __future__ import annotations

import asyncio
import gc
import warnings
from contextlib import suppress

from tests.sim.loop import SimLoop, SimTask

MAX_AWAITS = 100
"""Awaits in the `finally` blocks of one coroutine."""


def cancel_leftovers(loop: SimLoop) -> None:
    """Cancel what still runs and wait for it; then look for exceptions that nobody has seen.

    Raises:
        SimulationError: a task does not end when cancelled, or has failed unseen.
    """
    loop.run_until_complete(_cancel_all(loop))
    loop.forget_done()
    loop._check()


async def _cancel_all(loop: SimLoop) -> None:
    me = asyncio.current_task()
    while left := [
        task
        for task in loop.tasks.values()
        if task is not me and not task.done() and not _killed(task)
    ]:
        for task in left:
            task.cancel()
        await asyncio.wait(left)
        for task in left:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error


def _killed(task: SimTask[object]) -> bool:
    return task.process is not None and not task.process.alive


def end(loop: SimLoop) -> None:
    """Close the loop. Nothing that belongs to it runs afterwards, and nothing warns."""
    with warnings.catch_warnings():
        # A `finally` block may make coroutines that can no longer be awaited.
        warnings.simplefilter("ignore")
        for task in list(loop.tasks.values()):
            if task.done():
                task._log_traceback = False
            else:
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                _bury(task)
        loop.tasks.clear()
        loop._graveyard.clear()
        loop._timers.clear()
        loop._ready.clear()
        loop.failures.clear()
        # Such coroutines lie in cycles with their frames; left to a later collection, they would
        # warn in the middle of some other test.
        gc.collect()
    loop.close()


def _bury(task: SimTask[object]) -> None:
    for _ in range(MAX_AWAITS):
        try:
            task.work.close()
        except RuntimeError as error:
            if "ignored GeneratorExit" in str(error):
                continue  # it awaits in a `finally`; the next close ends that await too
            return
        except BaseException:
            return
        return
    with suppress(BaseException):
        task.work.close()
