"""What the commands share: finding the configuration, running, tables, exit codes."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
import uvloop
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from proxy.adapters import logs
from proxy.app import administer
from proxy.config.load import load
from proxy.config.schema import Settings
from proxy.config.trust import anybody_may_write
from proxy.domain.errors import BadConfig, BadRequest, ProxyError

T = TypeVar("T")

FAILED = 1
WRONG_USAGE = 2

USUAL_PLACES = (Path("proxy.toml"), Path("/etc/pop3-sync-proxy/proxy.toml"))

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        envvar="POP3_SYNC_CONFIG",
        help="The configuration file. Without it: proxy.toml here, then in "
        "/etc/pop3-sync-proxy, then POP3_SYNC_… variables alone.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


@contextmanager
def errors_end_the_command() -> Any:
    """Turn what a command raises into one clear message and its exit code."""
    try:
        yield
    except BadConfig as error:
        for problem in error.problems:
            typer.echo(problem, err=True)
        raise typer.Exit(WRONG_USAGE) from None
    except BadRequest as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(WRONG_USAGE) from None
    except (ProxyError, OSError) as error:
        typer.echo(str(error) or type(error).__name__, err=True)
        raise typer.Exit(FAILED) from None


def settings_from(config: Path | None) -> Settings:
    """Raises:
    BadConfig: with every problem found.
    """
    if config is None:
        place = next((place for place in USUAL_PLACES if place.is_file()), None)
        return load(place, os.environ, found=True)
    if anybody_may_write(config):
        typer.echo(f"warning: anybody may write {config}: chmod o-w it", err=True)
    return load(config, os.environ)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end on uvloop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def operate(config: Path | None, command: str, **arguments: Any) -> Any:
    """Run an operator's command on a running or a stopped proxy; a failure ends the program."""
    with errors_end_the_command(), progress_bar(command) as show:
        logs.configure("error", "text")

        async def report(done: int, total: int) -> None:
            show(done, total)

        return run(administer(settings_from(config), command, arguments, report))


@contextmanager
def progress_bar(work: str) -> Iterator[Callable[[int, int], None]]:
    """A bar for who waits at a terminal, from the first call with more than nothing to do."""
    columns = (TextColumn(work), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(work, visible=False)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, visible=total > 0)

        yield show


def print_json(data: Any) -> None:
    json.dump(data, sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


def print_table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    table = Table(*headings, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    # A pipe has no width; a table cut at 80 columns would lose names.
    Console(width=None if sys.stdout.isatty() else 200, highlight=False, markup=False).print(table)


def when(at: float | None) -> str:
    """A Unix time in local time, to the second."""
    return (
        "-" if at is None else f"{datetime.fromtimestamp(at, UTC).astimezone():%Y-%m-%d %H:%M:%S}"
    )


def ago(at: float | None) -> str:
    """A Unix time as people say it."""
    if at is None:
        return "never"
    seconds = max(time.time() - at, 0)  # noqa: TID251 - for the reader's eyes only
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    return f"{int(seconds)} s ago"


def octets(count: int) -> str:
    """A size as people say it."""
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
