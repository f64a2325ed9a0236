"""Whether a configuration that nobody has named may be believed: it can say what is to be run."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from pathlib import Path

OTHERS = stat.S_IWGRP | stat.S_IWOTH


def why_not_own(path: Path, opened: os.stat_result) -> str:
    """Who else than root and ourselves could have made this file what it is; "" for nobody.

    `opened` is that of the file which was opened under this path. The folder that the path names is
    where the relative paths in it begin; the one that the file is really in may be another.
    """
    real = path.resolve()
    if not os.path.samestat(opened, real.stat()):
        return "it is being exchanged"
    if why := _why(real, opened):
        return why
    for folder in dict.fromkeys([real.parent, path.absolute().parent.resolve()]):
        if why := _why(folder, folder.stat()):
            return why
    return "" if path.lstat().st_uid in _trusted() else f"the link {path} belongs to somebody else"


def anybody_may_write(path: Path) -> bool:
    """Whether that is so of a file that the operator has named."""
    try:
        return bool(path.stat().st_mode & stat.S_IWOTH)
    except OSError:
        # Reading it tells.
        return False


def _why(path: Path, status: os.stat_result) -> str:
    if status.st_uid not in _trusted():
        return f"{path} belongs to user {status.st_uid}"
    others = status.st_mode & OTHERS
    if stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX:
        # Files in it can be exchanged by their owners alone.
        others = 0
    if others & stat.S_IWGRP and _is_private(status):
        others &= ~stat.S_IWGRP
    return f"others may write {path}" if others else ""


def _trusted() -> tuple[int, ...]:
    return 0, os.geteuid()


def _is_private(status: os.stat_result) -> bool:
    """Whether the group is its owner's own, as on systems that give every user one."""
    try:
        owner, group = pwd.getpwuid(status.st_uid), grp.getgrgid(status.st_gid)
    except KeyError:
        return False
    alone = all(member == owner.pw_name for member in group.gr_mem)
    own = owner.pw_gid == status.st_gid and owner.pw_name == group.gr_name
    return status.st_uid != 0 and own and alone
