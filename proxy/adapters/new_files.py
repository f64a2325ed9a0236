"""Writing files that must not exist yet: mail, keys and passwords, for their owner alone."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO


@dataclass(frozen=True, slots=True)
class NewFile:
    path: Path
    content: bytes = field(repr=False)
    mode: int


def write_new(*files: NewFile) -> None:
    """Each appears complete, the last one last; a folder that is missing is made for the owner
    alone. Whatever stops it, nothing is left.

    Raises:
        FileExistsError: one of them exists; it stays as it is.
        OSError: they cannot be written.
    """
    made: list[Path] = []
    try:
        staged = [(_stage(file, made), file.path) for file in files]
        for temporary, path in staged:
            _appear(temporary, path)
            made.append(path)
        for temporary, _ in staged:
            temporary.unlink(missing_ok=True)
    except BaseException:
        for path in reversed(made):
            if path.is_dir():
                path.rmdir()
            else:
                path.unlink(missing_ok=True)
        raise


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A file to be written as its content comes, for its owner alone. Where that fails it is gone
    again.

    Raises:
        FileExistsError: something has this name, be it a link to nowhere.
        OSError: it cannot be made or written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        raise FileExistsError(f"{path} exists already") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(descriptor)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _appear(temporary: Path, path: Path) -> None:
    """Under its name at once, and never in the place of something else."""
    try:
        os.link(temporary, path, follow_symlinks=False)
    except FileExistsError:
        raise FileExistsError(f"{path} exists already") from None
    except OSError:
        # A file system without links.
        if os.path.lexists(path):
            raise FileExistsError(f"{path} exists already") from None
        os.rename(temporary, path)


def _stage(file: NewFile, made: list[Path]) -> Path:
    folder = file.path.parent
    if not folder.exists():
        made.append(folder)
        folder.mkdir(mode=0o700)
    descriptor, name = tempfile.mkstemp(dir=folder, prefix=f".{file.path.name}.")
    made.append(Path(name))
    with os.fdopen(descriptor, "wb") as out:
        out.write(file.content)
        os.fchmod(descriptor, file.mode)
        out.flush()
        os.fsync(descriptor)
    return Path(name)
