"""Facts as log lines on standard error. Level and event name of each fact are decided here alone.

A record of the text format is one line of key=value; a traceback follows it indented, so that
nothing a peer sent can begin a line.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from dataclasses import fields
from typing import Any, Literal

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from proxy.domain.facts import (
    BlobDamaged,
    CertificateLoaded,
    CertificateUnusable,
    DeviceEnrolled,
    Fact,
    ListingDoubted,
    LoginRefused,
    MessageSkipped,
    Purged,
    SessionEnded,
    SyncFailed,
    SyncFinished,
    UidlsChanged,
    Unexpected,
)

Level = Literal["debug", "info", "warning", "error"]

_LEVELS: Mapping[type, Level] = {
    LoginRefused: "warning",
    DeviceEnrolled: "info",
    SyncFailed: "warning",
    MessageSkipped: "warning",
    UidlsChanged: "warning",
    ListingDoubted: "warning",
    BlobDamaged: "error",
    Purged: "info",
    CertificateLoaded: "info",
    CertificateUnusable: "error",
    Unexpected: "error",
}

_LIMITS = {
    "slow_reader",
    "login_timeout",
    "login_octets",
    "bad_commands",
    "proxy_header",
    "too_many_connections",
    "too_many_from_address",
}
"""Endings of sessions that an operator may want to act on."""

_KEY_ORDER = ["timestamp", "level", "event"]

# C0, DEL and C1 controls, the line separators of Unicode, the characters that reorder text, and
# lone surrogates, which no stream can encode.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class LogObserver:
    """One log record per fact; its fields are the record's."""

    def observe(self, fact: Fact) -> None:
        log = structlog.get_logger()
        record = {field.name: _plain(getattr(fact, field.name)) for field in fields(fact)}
        if isinstance(fact, Unexpected):
            record["error"] = f"{type(fact.error).__name__}: {fact.error}"
            record["exc_info"] = fact.error
        # A log that cannot be written (full disk, closed pipe) must end no session.
        with suppress(OSError, ValueError):
            getattr(log, _level(fact))(_event(type(fact)), **record)


def configure(level: Level, format: Literal["text", "json"]) -> None:
    """Send every log line of this process, the standard library's included, to standard error.

    May be called again; the last call holds.
    """
    shared: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: Processor = (
        structlog.processors.JSONRenderer() if format == "json" else _TextRenderer()
    )
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        # Loggers made before a second call would keep the old level.
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)


class _TextRenderer:
    """key=value pairs on one line, then the traceback, if any, indented."""

    def __init__(self) -> None:
        self._pairs = structlog.processors.LogfmtRenderer(
            key_order=_KEY_ORDER, drop_missing=True, bool_as_flag=False
        )

    def __call__(self, logger: WrappedLogger, method: str, record: MutableMapping[str, Any]) -> str:
        traceback = str(record.pop("exception", "") or "")
        safe: EventDict = {
            key: _escaped(value) if isinstance(value, str) else value
            for key, value in record.items()
        }
        lines = [self._pairs(logger, method, safe)]
        lines += (f"    {_escaped(line)}" for line in traceback.split("\n") if line)
        return "\n".join(lines)


def _level(fact: Fact) -> Level:
    if isinstance(fact, SessionEnded):
        return "warning" if fact.ended in _LIMITS else "info"
    if isinstance(fact, SyncFinished):
        # Most syncs find nothing; a line for each would bury the rest.
        return "info" if fact.fetched or fact.expunged or fact.failed else "debug"
    return _LEVELS[type(fact)]


def _event(kind: type) -> str:
    """SyncFinished is logged as sync_finished."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


def _plain(value: Any) -> Any:
    return round(value, 6) if isinstance(value, float) else value


def _escaped(text: str) -> str:
    return _UNSAFE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
