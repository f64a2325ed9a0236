"""What a test needs of the machine, and what happens when it is not there."""

from __future__ import annotations

import os
import shutil

import pytest


def cannot(reason: str) -> None:
    """Skip; but CI has everything, and there a test that cannot run is one that failed."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def need(program: str) -> str:
    """The test needs this executable; returns its path."""
    path = shutil.which(program)
    if path is None:
        cannot(f"{program} is not installed")
    return str(path)
