"""A real disk that is small: a tmpfs of its own, whose size can be changed while it is in use."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.needs import cannot, need

MIB = 1024**2

EVERY = 0.002
"""Seconds between two looks at what is free."""


class SmallDisk:
    def __init__(self, folder: Path, mebioctets: int) -> None:
        if os.geteuid() != 0:
            cannot("only root mounts a disk of a size of its own")
        self.folder = folder
        folder.mkdir(parents=True)
        size = f"size={mebioctets}m,mode=700"
        done = _run(need("mount"), "-t", "tmpfs", "-o", size, "tmpfs", str(folder))
        if done.returncode:
            cannot(f"a tmpfs cannot be mounted here: {done.stderr.strip()}")

    @property
    def free(self) -> int:
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize

    def resize(self, mebioctets: int) -> None:
        option = f"remount,size={mebioctets}m"
        done = _run(need("mount"), "-o", option, str(self.folder))
        assert done.returncode == 0, done.stderr

    @contextmanager
    def watched(self) -> Iterator[list[int]]:
        """The least that was free meanwhile stands in the list, and gets less."""
        least = [self.free]
        over = threading.Event()

        def look() -> None:
            while not over.wait(EVERY):
                least[0] = min(least[0], self.free)

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield least
        finally:
            over.set()
            thread.join()

    def close(self) -> None:
        # Lazily, should somebody still hold a file.
        _run(need("umount"), "--lazy", str(self.folder))


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
