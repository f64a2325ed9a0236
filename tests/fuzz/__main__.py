"""`python -m tests.fuzz TARGET [--runs N] [--seconds S]`: fuzz with coverage as the guide."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

from tests.fuzz import corpus
from tests.fuzz.targets import TARGETS

MAX_LEN = {"server_machine": 1024, "sasl_layer": 1024, "proxy_header": 4608}
"""Octets of an input; tests.fuzz.plan lets few stand for many where long lines matter."""
TIMEOUT = 20
"""Seconds for one input; one that takes longer is a finding."""
MISSING = (
    "atheris is not installed: python -m pip install --require-hashes -r requirements/fuzz.txt"
)
RUNS_DEFAULT = 1_000_000

_EXECUTED = re.compile(r"stat::number_of_executed_units:\s*(\d+)")
_COVERAGE = re.compile(r"\bcov: (\d+) ft: (\d+) corp: (\d+)")


def main() -> None:
    wanted = _arguments()
    if wanted.input is not None:
        TARGETS[wanted.target](wanted.input.read_bytes())
        print("no objection")
        return
    if find_spec("atheris") is None:
        sys.exit(MISSING)
    # No folder of the project's: what turns up is for whoever runs this to look at.
    folder = Path(tempfile.mkdtemp(prefix=f"fuzz-{wanted.target}-"))
    code = _fuzz(folder, wanted)
    if code == 0:
        shutil.rmtree(folder)
    else:
        print(f"the input found is in {folder}; try it again with --input FILE")
    sys.exit(code)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--runs", type=int, help=f"inputs; {RUNS_DEFAULT} unless told otherwise")
    parser.add_argument("--seconds", type=int, help="end after so long at the latest")
    parser.add_argument("--seed", type=int, default=0, help="of chance; 0 draws one")
    parser.add_argument("--input", type=Path, help="try the octets of this file and nothing else")
    return parser.parse_args()


def _fuzz(folder: Path, wanted: argparse.Namespace) -> int:
    command = [sys.executable, "-m", "tests.fuzz.engine", wanted.target, *_options(folder, wanted)]
    started = time.monotonic()
    executed = coverage = None
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace") as engine:
        assert engine.stderr is not None
        for line in engine.stderr:
            print(line, end="", flush=True)
            executed = _EXECUTED.search(line) or executed
            coverage = _COVERAGE.search(line) or coverage
    seconds = time.monotonic() - started
    if executed is not None and coverage is not None:
        count = int(executed[1])
        print(
            f"{wanted.target}: {count} inputs in {seconds:.0f} s, {count / seconds:.0f} a second; "
            f"{coverage[1]} branches and {coverage[2]} features seen, {coverage[3]} inputs kept"
        )
    return engine.returncode


def _options(folder: Path, wanted: argparse.Namespace) -> list[str]:
    """libFuzzer's, with its seeds and its dictionary in `folder`."""
    seeds = folder / "corpus"
    seeds.mkdir()
    for number, octets in enumerate(corpus.seeds(wanted.target)):
        (seeds / f"seed-{number:03}").write_bytes(octets)
    dictionary = folder / "dictionary"
    dictionary.write_text("".join(map(_entry, corpus.tokens(wanted.target))))
    runs = wanted.runs or (-1 if wanted.seconds else RUNS_DEFAULT)
    return [
        str(seeds),
        f"-dict={dictionary}",
        f"-artifact_prefix={folder}/",
        f"-max_len={MAX_LEN[wanted.target]}",
        f"-timeout={TIMEOUT}",
        f"-runs={runs}",
        f"-max_total_time={wanted.seconds or 0}",
        f"-seed={wanted.seed}",
        "-print_final_stats=1",
    ]


def _entry(token: bytes) -> str:
    """A line of libFuzzer's dictionary."""
    return '"{}"\n'.format("".join(f"\\x{octet:02X}" for octet in token))


if __name__ == "__main__":
    main()
