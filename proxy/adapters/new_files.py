"""Writing files that must not exist yet: all of them or none."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path


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
            if os.path.lexists(path):
                raise FileExistsError(f"{path} exists already")
            made.append(path)
            os.rename(temporary, path)
    except BaseException:
        for path in reversed(made):
            if path.is_dir():
                path.rmdir()
            else:
                path.unlink(missing_ok=True)
        raise


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
