"""The process libFuzzer runs in, and ends: `python -m tests.fuzz.engine TARGET OPTION…`."""

from __future__ import annotations

import sys
from importlib import import_module


def main() -> None:
    # Not a dependency of the tests: it has wheels for few machines, and no types.
    atheris = import_module("atheris")
    target, *arguments = sys.argv[1:]
    with atheris.instrument_imports(include=["proxy.wire"]):
        targets = import_module("tests.fuzz.targets")
    atheris.Setup([sys.argv[0], *arguments], targets.TARGETS[target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
