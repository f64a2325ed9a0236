"""`python -m tests.bench [NAME …]`: measure and print. Nothing here judges a number."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from tests.bench import big_mailbox, slow_line

BENCHMARKS: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
    "big-mailbox": big_mailbox.measure,
    "slow-line": slow_line.measure,
}


def main() -> None:
    wanted = sys.argv[1:] or list(BENCHMARKS)
    unknown = [name for name in wanted if name not in BENCHMARKS]
    if unknown:
        sys.exit(f"no benchmark {', '.join(unknown)}; there are: {', '.join(BENCHMARKS)}")
    for name in wanted:
        print(f"== {name}", flush=True)
        asyncio.run(BENCHMARKS[name]())


if __name__ == "__main__":
    main()
