"""Folders held open, in which no name leads out of them: neither by a link nor by a special file.

What is made in one is given to the folder's owner, when root makes it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MAKE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Folder:
    """Every verb raises `OSError`, and `FileNotFoundError` where the name is not there."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor
        status = os.fstat(descriptor)
        self.owner = status.st_uid
        self._group = status.st_gid

    @classmethod
    @contextmanager
    def opened(cls, path: Path) -> Iterator[Folder]:
        """The path itself may be a link: the operator has named it."""
        descriptor = os.open(path, _FOLDER)
        try:
            yield cls(path, descriptor)
        finally:
            os.close(descriptor)

    @contextmanager
    def within(self, name: str, *, make: bool = False) -> Iterator[Folder]:
        """A folder in it; with `make` it is made for the owner alone, if it is not there."""
        made = False
        if make:
            with suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=self._descriptor)
                made = True
        descriptor = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=self._descriptor)
        try:
            if made:
                self._give(descriptor)
            yield Folder(self._path / name, descriptor)
        finally:
            os.close(descriptor)

    def status(self, name: str) -> os.stat_result | None:
        """Of what has this name itself; None: nothing has."""
        try:
            return os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def names(self) -> list[str]:
        return os.listdir(self._descriptor)

    def open(self, name: str, *, own: bool) -> BufferedReader:
        """Read a plain file; with `own`, no further name of a file that somebody else owns."""
        descriptor = os.open(name, _READ, dir_fd=self._descriptor)
        status = os.fstat(descriptor)
        foreign = own and status.st_nlink > 1 and status.st_uid != self.owner
        if not stat.S_ISREG(status.st_mode) or foreign:
            os.close(descriptor)
            raise OSError(errno.EINVAL, "not a plain file of its folder", str(self._path / name))
        return os.fdopen(descriptor, "rb")

    def make(self, name: str, mode: int = 0o600) -> BinaryIO:
        """Write a file that is not there yet."""
        descriptor = os.open(name, _MAKE, mode, dir_fd=self._descriptor)
        self._give(descriptor)
        return os.fdopen(descriptor, "wb")

    def link(self, source: Folder, name: str, target: str) -> None:
        """A further name for a file of another folder."""
        os.link(
            name,
            target,
            src_dir_fd=source._descriptor,
            dst_dir_fd=self._descriptor,
            follow_symlinks=False,
        )

    def rename(self, name: str, target: str) -> None:
        """Takes the place of what is there."""
        os.rename(name, target, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)

    def remove(self, name: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._descriptor)

    def _give(self, descriptor: int) -> None:
        if os.geteuid() == 0:
            os.fchown(descriptor, self.owner, self._group)
