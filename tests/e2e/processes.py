"""Starting processes that do not outlive the tests, even tests that are killed."""

from __future__ import annotations

import shutil

_SETPRIV = shutil.which("setpriv")


def bound(command: list[str]) -> list[str]:
    """The command, made to get SIGTERM when the thread that starts it ends.

    Only where util-linux is there; elsewhere the command as it is.
    """
    return command if _SETPRIV is None else [_SETPRIV, "--pdeathsig", "TERM", *command]
