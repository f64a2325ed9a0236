"""What the tests of the configuration share."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.config.load import load
from proxy.domain.errors import BadConfig

HOST = '[upstream]\nhost = "pop.example.com"\n'


def problems(file: Path, text: str, environ: dict[str, str] | None = None) -> list[str]:
    """What is wrong with `text`, without the file's name before each line."""
    file.write_text(text)
    with pytest.raises(BadConfig) as caught:
        load(file, environ or {})
    assert all("\n" not in line for line in caught.value.problems)
    return [line.removeprefix(f"{file}: ") for line in caught.value.problems]
