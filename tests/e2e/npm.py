"""Packages of npm, installed on demand: an exact version into a folder, no lock file."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

PATIENCE = 120.0
"""Seconds for one package with all that it depends on."""


class CannotInstall(Exception):
    """npm is not here, or its registry cannot be had."""


def install(package: str, folder: Path) -> None:
    """Install `NAME@VERSION` below `folder`, which is made if need be.

    Raises:
        CannotInstall: with what npm said.
    """
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            raise CannotInstall(f"{program} is not installed")
    folder.mkdir(exist_ok=True)
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"]
    try:
        done = subprocess.run(
            [*command, "--prefix", str(folder), package],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise CannotInstall("npm's registry did not answer") from None
    if done.returncode:
        raise CannotInstall(f"npm could not install {package}: {done.stderr[-1000:]}")
