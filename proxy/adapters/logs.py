"""Facts as log lines on standard error. Level and event name of each fact are decided here alone.

A record of the text format is one line of key=value; a traceback follows it indented, so that
nothing a peer sent can begin a line.
"""

from __future__ import annotations

import logging
import re
import sys
from collections import defaultdict
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from dataclasses import fields
from typing import Any, Literal, get_args

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from proxy.domain.facts import (
    AlertFailed,
    AlertSent,
    BlobDamaged,
    CertificateLoaded,
    CertificateUnusable,
    DeviceEnrolled,
    DeviceRefused,
    DeviceUsed,
    Fact,
    ListingDoubted,
    LoggedIn,
    LoginPutOff,
    LoginRefused,
    LoginUnasked,
    MessageFetched,
    MessageSkipped,
    MessagesSetAside,
    Purged,
    SentCopyMissing,
    SentCopyStored,
    SessionEnded,
    SessionStarted,
    SmtpSessionEnded,
    SubmissionEnded,
    SyncFailed,
    SyncFinished,
    TroubleBegan,
    TroubleOver,
    UidlsChanged,
    Unexpected,
    UpstreamLoggedIn,
)
from proxy.interfaces.observer import work_id

Level = Literal["debug", "info", "warning", "error"]

LEVELS: Mapping[Level, int] = {"debug": 10, "info": 20, "warning": 30, "error": 40}

Part = Literal["sessions", "syncs", "store"]
"""What may have a level of its own."""

_PARTS: Mapping[type, Part] = {
    SessionStarted: "sessions",
    SessionEnded: "sessions",
    SmtpSessionEnded: "sessions",
    SubmissionEnded: "sessions",
    SentCopyStored: "sessions",
    SentCopyMissing: "sessions",
    LoggedIn: "sessions",
    LoginPutOff: "sessions",
    LoginRefused: "sessions",
    LoginUnasked: "sessions",
    DeviceRefused: "sessions",
    DeviceUsed: "sessions",
    DeviceEnrolled: "sessions",
    UpstreamLoggedIn: "syncs",
    MessageFetched: "syncs",
    SyncFinished: "syncs",
    SyncFailed: "syncs",
    MessageSkipped: "syncs",
    UidlsChanged: "syncs",
    ListingDoubted: "syncs",
    BlobDamaged: "store",
    MessagesSetAside: "store",
    Purged: "store",
}

_LEVELS: Mapping[type, Level] = {
    SessionStarted: "debug",
    SentCopyStored: "debug",
    SentCopyMissing: "error",
    LoggedIn: "debug",
    LoginPutOff: "warning",
    LoginRefused: "warning",
    LoginUnasked: "warning",
    DeviceRefused: "warning",
    DeviceUsed: "debug",
    DeviceEnrolled: "info",
    UpstreamLoggedIn: "debug",
    MessageFetched: "debug",
    SyncFailed: "warning",
    MessageSkipped: "warning",
    UidlsChanged: "warning",
    ListingDoubted: "warning",
    BlobDamaged: "error",
    MessagesSetAside: "warning",
    Purged: "info",
    TroubleBegan: "warning",
    TroubleOver: "info",
    AlertSent: "info",
    AlertFailed: "warning",
    CertificateLoaded: "info",
    CertificateUnusable: "error",
    Unexpected: "error",
}

_LIMITS = {
    "slow_reader",
    "login_timeout",
    "login_octets",
    "bad_commands",
    "http",
    "proxy_header",
    "too_many_connections",
    "too_many_from_address",
}
"""Endings of sessions that an operator may want to act on."""

_KEY_ORDER = ["timestamp", "level", "event"]

# C0, DEL and C1 controls, the line separators of Unicode, the characters that reorder text, and
# lone surrogates, which no stream can encode.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


_LONGEST = 128
_LONGEST_PROSE = 500
"""Characters of a text: strangers choose names and servers choose reasons, as long as they like."""
_PROSE = {"reason", "answer", "why", "names", "error"}

_PERSONAL = {"peer"}
"""Fields that lines of the level "info" go without, unless the part is debugged."""


class LogObserver:
    """One log record per fact; its fields are the record's, but for those that are not shown."""

    def observe(self, fact: Fact) -> None:
        level, threshold = _level(fact), _thresholds[_PARTS.get(type(fact), "")]
        if LEVELS[level] < threshold:
            return
        shown = (field.name for field in fields(fact) if field.repr)
        record = {name: _plain(name, getattr(fact, name)) for name in shown}
        if level == "info" and threshold > LEVELS["debug"]:
            for name in _PERSONAL:
                record.pop(name, None)
        if isinstance(fact, Unexpected):
            record["error"] = _plain("error", f"{type(fact.error).__name__}: {fact.error}")
            record["exc_info"] = fact.error
        if found := work_id.get():
            record["id"] = found
        # A log that cannot be written (full disk, closed pipe) must end no session.
        with suppress(OSError, ValueError):
            getattr(structlog.get_logger(), level)(_event(type(fact)), **record)


_thresholds: dict[Part | Literal[""], int] = defaultdict(lambda: LEVELS["info"])
"""The least level of each part, and under "" of all else; `configure` sets it."""


def configure(
    level: Level,
    format: Literal["text", "json"],
    parts: Mapping[Part, Level | Literal[""]] | None = None,
) -> None:
    """Send every log line of this process, the standard library's included, to standard error.

    `parts` may have levels of their own. May be called again; the last call holds.
    """
    _thresholds.clear()
    _thresholds[""] = LEVELS[level]
    for part in get_args(Part):
        _thresholds[part] = LEVELS[(parts or {}).get(part) or level]
    shared: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: Processor = (
        structlog.processors.JSONRenderer() if format == "json" else _TextRenderer()
    )
    structlog.configure(
        processors=[*shared, renderer],
        # `LogObserver` holds back what is finer than the level of its part.
        wrapper_class=structlog.make_filtering_bound_logger(min(_thresholds.values())),
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
    root.setLevel(LEVELS[level])
    # At "debug" it tells every statement with its values, hashes of passwords and keys among them.
    logging.getLogger("aiosqlite").setLevel(LEVELS["info"])


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
    if isinstance(fact, SubmissionEnded):
        return "info" if fact.outcome == "accepted" else "warning"
    if isinstance(fact, SessionEnded | SmtpSessionEnded):
        return "warning" if fact.ended in _LIMITS else "info"
    if isinstance(fact, SyncFinished):
        # Most syncs find nothing; a line for each would bury the rest.
        return "info" if fact.fetched or fact.expunged or fact.failed else "debug"
    return _LEVELS[type(fact)]


def _event(kind: type) -> str:
    """SyncFinished is logged as sync_finished."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, str):
        longest = _LONGEST_PROSE if name in _PROSE else _LONGEST
        return value if len(value) <= longest else value[: longest - 1] + "…"
    return round(value, 6) if isinstance(value, float) else value


def _escaped(text: str) -> str:
    return _UNSAFE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
