"""Facts as log lines."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextvars import copy_context
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

import aiosqlite
import pytest
import structlog

from proxy.adapters.logs import Level, LogObserver, configure
from proxy.adapters.observers import TeeObserver
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

SESSION = SessionEnded(
    "::1", "alice", "laptop", "TLSv1.3", "quit", 3, 1, 120, 4096, 0.1234567891, {"QUIT": 1}
)

SMTP_SESSION = SmtpSessionEnded("::1", "alice", "laptop", "", "quit", 1, 999, 120, 0.5)
SUBMISSION = SubmissionEnded("alice", "laptop", "accepted", "250 2.0.0 fine", 1, 888, 0.4)

FACTS: list[tuple[Fact, Level, str]] = [
    (SessionStarted("::1"), "debug", "session_started"),
    (SESSION, "info", "session_ended"),
    (LoginRefused("::1", "alice", "credentials", "wrong password"), "warning", "login_refused"),
    (LoginUnasked("::1", "alice", "refused_lately", "no"), "warning", "login_unasked"),
    (LoggedIn("alice", "laptop", 0.1), "debug", "logged_in"),
    (LoginPutOff("::1", "alice", "UpstreamSilent", "no"), "warning", "login_put_off"),
    (DeviceRefused("::1", "alice", "name this device"), "warning", "device_refused"),
    (DeviceUsed("::1", "alice", "laptop", named=True), "debug", "device_used"),
    (DeviceEnrolled("alice", "laptop"), "info", "device_enrolled"),
    (UpstreamLoggedIn("alice", 0.1), "debug", "upstream_logged_in"),
    (MessageFetched("alice", 99, 0.1), "debug", "message_fetched"),
    (SyncFinished("alice", 10, 0, 0, 0, 0, 0, 0.5), "debug", "sync_finished"),
    (SyncFinished("alice", 10, 1, 99, 0, 0, 0, 0.5), "info", "sync_finished"),
    (SyncFinished("alice", 10, 0, 0, 1, 0, 0, 0.5), "info", "sync_finished"),
    (SyncFinished("alice", 10, 0, 0, 0, 0, 1, 0.5), "info", "sync_finished"),
    (SyncFailed("alice", "UpstreamBusy", "try later", 60.0), "warning", "sync_failed"),
    (MessageSkipped("alice", "u1", 999, "too large"), "warning", "message_skipped"),
    (UidlsChanged("alice", 10, 1), "warning", "uidls_changed"),
    (ListingDoubted("alice", 10), "warning", "listing_doubted"),
    (BlobDamaged("alice", 7), "error", "blob_damaged"),
    (MessagesSetAside(3), "warning", "messages_set_aside"),
    (Purged("alice", 3, 99), "info", "purged"),
    (TroubleBegan("alice", "no_sync", True), "warning", "trouble_began"),
    (TroubleOver("alice", "no_sync", 1.7e9), "info", "trouble_over"),
    (AlertSent(1), "info", "alert_sent"),
    (AlertFailed("no connection", 60.0), "warning", "alert_failed"),
    (CertificateLoaded("mail.lan", "AB:CD", 1.8e9), "info", "certificate_loaded"),
    (CertificateUnusable("no certificate"), "error", "certificate_unusable"),
    (replace(SESSION, ended="bad_commands"), "warning", "session_ended"),
    (SMTP_SESSION, "info", "smtp_session_ended"),
    (replace(SMTP_SESSION, ended="login_octets"), "warning", "smtp_session_ended"),
    (SUBMISSION, "info", "submission_ended"),
    (replace(SUBMISSION, outcome="refused"), "warning", "submission_ended"),
    (SentCopyStored("alice", "laptop"), "debug", "sent_copy_stored"),
    (SentCopyMissing("alice", "laptop", "disk full"), "error", "sent_copy_missing"),
    (Unexpected("janitor", RuntimeError("boom")), "error", "unexpected"),
]


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def records(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    captured = capsys.readouterr()
    assert captured.out == ""
    return [json.loads(line) for line in captured.err.splitlines()]


@pytest.mark.parametrize(("fact", "level", "event"), FACTS)
def test_a_fact_is_one_record_with_its_level(
    capsys: pytest.CaptureFixture[str], fact: Fact, level: Level, event: str
) -> None:
    configure("debug", "json")
    LogObserver().observe(fact)
    (record,) = records(capsys)
    assert (record["level"], record["event"]) == (level, event)


@pytest.mark.parametrize("format", ["json", "text"])
def test_nobody_writes_long_lines_into_the_log(
    capsys: pytest.CaptureFixture[str], format: Literal["json", "text"]
) -> None:
    configure("debug", format)
    name, prose = "n" * 10_000, "p" * 10_000
    LogObserver().observe(LoginRefused(name, name, "credentials", prose))
    LogObserver().observe(SyncFailed(name, "UpstreamBusy", prose, 60.0))
    written = capsys.readouterr().err.splitlines()
    assert "n" * 127 + "…" in written[0] or "n" * 127 + "\\u2026" in written[0]
    assert "n" * 128 not in written[0]
    assert "p" * 500 not in "".join(written)
    assert "p" * 499 in written[1]


def test_every_kind_of_fact_has_a_level() -> None:
    assert {type(fact) for fact, _, _ in FACTS} == set(get_args(Fact))


def test_a_record_has_the_fact_s_fields_and_a_utc_time(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "json")
    LogObserver().observe(SESSION)
    (record,) = records(capsys)
    at = datetime.fromisoformat(record.pop("timestamp"))
    assert at.tzinfo == UTC
    assert record == {
        "level": "info",
        "event": "session_ended",
        "account": "alice",
        "device": "laptop",
        "tls": "TLSv1.3",
        "ended": "quit",
        "retrieved": 3,
        "deleted": 1,
        "octets_in": 120,
        "octets_out": 4096,
        "seconds": 0.123457,
    }


def test_addresses_of_devices_are_for_debugging_and_for_warnings(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure("info", "json", {"sessions": "debug"})
    LogObserver().observe(SESSION)
    configure("info", "json")
    LogObserver().observe(SESSION)
    LogObserver().observe(LoginRefused("::1", "alice", "credentials", "wrong password"))
    assert [record.get("peer") for record in records(capsys)] == ["::1", None, "::1"]


@pytest.mark.parametrize("level", ["info", "error"])
def test_a_part_may_have_a_level_of_its_own(
    capsys: pytest.CaptureFixture[str], level: Level
) -> None:
    configure(level, "json", {"syncs": "debug", "sessions": "warning", "store": ""})
    for fact, _, _ in FACTS:
        LogObserver().observe(fact)
    logged = {(record["event"], record["level"]) for record in records(capsys)}
    assert ("sync_finished", "debug") in logged
    assert ("session_ended", "info") not in logged
    assert ("session_ended", "warning") in logged
    assert (("purged", "info") in logged) is (level == "info")


def test_lines_of_one_session_or_sync_share_an_id(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "json")
    context = copy_context()
    context.run(work_id.set, "4711")
    context.run(LogObserver().observe, DeviceEnrolled("alice", "laptop"))
    context.run(LogObserver().observe, SESSION)
    LogObserver().observe(Purged("alice", 3, 99))
    assert [record.get("id") for record in records(capsys)] == ["4711", "4711", None]


def test_what_is_below_the_level_is_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    configure("warning", "json")
    LogObserver().observe(SESSION)
    logging.getLogger("aiohttp").info("started")
    LogObserver().observe(BlobDamaged("alice", 7))
    assert [record["event"] for record in records(capsys)] == ["blob_damaged"]


def test_a_later_level_holds_for_loggers_made_before(capsys: pytest.CaptureFixture[str]) -> None:
    configure("warning", "json")
    log = structlog.get_logger()
    log.info("before")
    configure("info", "json")
    log.info("after")
    assert [record["event"] for record in records(capsys)] == ["after"]


def raised(text: str) -> Unexpected:
    try:
        raise RuntimeError(text)
    except RuntimeError as error:
        return Unexpected("janitor", error)


def test_an_unexpected_error_comes_with_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "json")
    LogObserver().observe(raised("boom"))
    (record,) = records(capsys)
    assert record["where"] == "janitor"
    assert record["error"] == "RuntimeError: boom"
    assert "in raised" in record["exception"]


def test_the_standard_library_s_records_look_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "json")
    logging.getLogger("asyncio").error("Task %s failed", "x", exc_info=RuntimeError("boom"))
    (record,) = records(capsys)
    assert record["event"] == "Task x failed"
    assert record["level"] == "error"
    assert record["logger"] == "asyncio"
    assert "RuntimeError: boom" in record["exception"]
    assert datetime.fromisoformat(record["timestamp"]).tzinfo == UTC


async def test_what_the_store_is_told_is_not_logged(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    configure("debug", "text")
    async with aiosqlite.connect(tmp_path / "db") as connection:
        await connection.execute("SELECT ?", ("planted",))
    assert "planted" not in capsys.readouterr().err


def test_a_line_of_text_begins_with_time_level_and_event(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure("info", "text")
    LogObserver().observe(LoginRefused("::1", "alice", "credentials", "wrong password"))
    line = capsys.readouterr().err
    stamp, _, rest = line.partition(" ")
    assert stamp.startswith("timestamp=2")
    assert rest == (
        "level=warning event=login_refused peer=::1 account=alice refusal=credentials "
        'reason="wrong password"\n'
    )


FORGED = "alice\r\ntimestamp=now\x1b[2J\x85\u2028\u202e\udc80"


@pytest.mark.parametrize("format", ["text", "json"])
def test_what_a_peer_sent_cannot_forge_a_line(
    capsys: pytest.CaptureFixture[str], format: Any
) -> None:
    configure("info", format)
    LogObserver().observe(LoginRefused("::1", FORGED, "credentials", "no such account"))
    logging.getLogger("aiohttp").error("bad request %s", FORGED)
    output = capsys.readouterr().err
    assert len(output.splitlines()) == 2
    assert all(character.isprintable() for character in output.replace("\n", ""))


def test_a_traceback_in_text_is_indented_line_by_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "text")
    LogObserver().observe(raised("boom\ntimestamp=forged\x1b"))
    first, *rest = capsys.readouterr().err.splitlines()
    assert "event=unexpected" in first
    assert any("in raised" in line for line in rest)
    assert all(line.startswith("    ") and line.isprintable() for line in rest)


def test_a_log_that_cannot_be_written_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "w") as full:
        monkeypatch.setattr("sys.stderr", full)
        configure("info", "text")
        LogObserver().observe(SESSION)
        # What is left in the buffer would fail once more when the file is closed.
        with pytest.raises(OSError, match="No space left"):
            full.close()


class Recorder:
    def __init__(self) -> None:
        self.facts: list[Fact] = []

    def observe(self, fact: Fact) -> None:
        self.facts.append(fact)


def test_a_tee_tells_every_observer() -> None:
    first, second = Recorder(), Recorder()
    TeeObserver([first, second]).observe(SESSION)
    assert first.facts == second.facts == [SESSION]
