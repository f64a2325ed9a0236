"""A program on a terminal, and a person who reads and types there."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from tests.e2e.processes import bound
from tests.e2e.waiting import PATIENCE


class Terminal:
    """Runs the command; use it as a context manager, which ends what still runs."""

    def __init__(self, command: list[str], folder: Path, environment: Mapping[str, str]) -> None:
        self._mine, its = pty.openpty()
        self._process = subprocess.Popen(
            bound(command),
            cwd=folder,
            env=environment,
            stdin=its,
            stdout=its,
            stderr=its,
            start_new_session=True,
            # A test run in the background ignores Ctrl-C, and its children would.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        os.close(its)
        self.screen = ""
        """Everything that was shown."""
        self._read = 0

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._mine)

    def wait_for(self, text: str) -> None:
        """Until it is shown, after what was waited for before.

        Raises:
            AssertionError: it is not, in time.
        """
        deadline = time.monotonic() + PATIENCE
        while (found := self.screen.find(text, self._read)) < 0:
            shown = self._more(deadline)
            assert shown, f"{text!r} was not shown:\n{self.screen}"
        self._read = found + len(text)

    def type(self, text: str) -> None:
        os.write(self._mine, text.encode() + b"\n")

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def end(self) -> int:
        """Its exit code, once it has ended."""
        deadline = time.monotonic() + PATIENCE
        while self._more(deadline):
            pass
        return self._process.wait(PATIENCE)

    def _more(self, deadline: float) -> bool:
        """False at the end, and at the deadline."""
        if not select.select([self._mine], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return False
        try:
            some = os.read(self._mine, 65536)
        except OSError:  # Linux reports the end of the other side so.
            return False
        self.screen += some.decode(errors="replace").replace("\r\n", "\n")
        return bool(some)
