"""How much a client may take up at the door where mail is handed in."""

from __future__ import annotations

import re
import resource
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from tests.e2e.rig import Rig
from tests.e2e.submission_stage import ObedientStage, obedient_stage
from tests.e2e.submitter import MAIL, Submitter, mail
from tests.e2e.waiting import eventually

pytestmark = pytest.mark.e2e

MAY_GROW = 16 * 1024
"""KiB that an attack may cost."""


@pytest.fixture
def stage(rig: Rig) -> Iterator[ObedientStage]:
    with obedient_stage(rig) as made:
        yield made


def still_serves(stage: ObedientStage) -> None:
    with stage.laptop() as client:
        assert client.send().startswith("250 ")


@pytest.mark.parametrize("inside", [False, True], ids=["before the login", "after the login"])
def test_an_endless_line_is_not_held(stage: ObedientStage, inside: bool) -> None:
    still_serves(stage)
    before = stage.proxy.peak_memory()
    with stage.laptop() if inside else stage.stranger() as client, suppress(ConnectionError):
        for _ in range(256):
            client.write(b"x" * 2**20)
        client.write(b"\r\n")
        assert inside, "it was read to its end"
        assert client.answer().startswith("500 5.5.2 line too long")
    assert stage.proxy.peak_memory() - before < MAY_GROW
    still_serves(stage)


def test_an_endless_login_is_ended(stage: ObedientStage) -> None:
    with stage.stranger() as client:
        client.hello()
        with suppress(ConnectionError):
            for _ in range(100_000):
                client.write(b"AUTH LOGIN\r\n" + b"eA==\r\n" * 10)
            raise AssertionError("it went on for ever")
    stage.logged("smtp_session_ended")
    assert re.search("ended=(login_octets|bad_commands)", stage.proxy.log())
    still_serves(stage)


@pytest.mark.parametrize("end", [b"\r\n", b""], ids=["a header without end", "a line without end"])
def test_content_without_end_is_not_held(rig: Rig, end: bytes) -> None:
    with obedient_stage(rig, sections={"smtp": {"max_message_size": "4MiB"}}) as stage:
        still_serves(stage)
        before = stage.proxy.peak_memory()
        chunk = b"X-Endless: " + b"x" * 60_000 + end
        with stage.laptop() as client:
            client.begin()
            assert client.say(b"DATA").startswith("354 ")
            for _ in range(2000):
                client.write(chunk)
            assert not list((stage.proxy.folder / "data" / "blobs" / "tmp").glob("[0-9]*"))
            assert client.say(b"\r\n.").startswith("552 5.3.4 ")
            assert client.send().startswith("250 ")
        assert stage.proxy.peak_memory() - before < MAY_GROW
        assert len(stage.upstream.mails) == 2


def test_a_client_hands_in_no_faster_than_the_server_takes(stage: ObedientStage) -> None:
    """A program that has said all waits a minute or two for its answer, and then sends again: by
    then, most of a large mail has to be upstream."""
    large = mail("large") + (b"x" * 900 + b"\r\n") * 50_000
    still_serves(stage)
    before = stage.proxy.peak_memory()
    trouble = stage.tap.make_trouble("content", "asked", "stall")
    with stage.laptop() as client:
        client.begin()
        assert client.say(b"DATA").startswith("354 ")
        patience = client.socket.gettimeout()
        client.socket.settimeout(2.0)
        sent = 0
        with suppress(TimeoutError):
            while sent < len(large):
                sent += client.socket.send(large[sent : sent + 65536])
        # All the buffers on the way are full.
        assert sent < len(large) / 2
        trouble.wait()
        stage.tap.go_on()
        client.socket.settimeout(patience)
        assert client.say(large[sent:] + b".").startswith("250 ")
    assert stage.upstream.mails[1:] == [large + b".\r\n"]
    assert stage.proxy.peak_memory() - before < MAY_GROW


def test_bad_commands_and_bad_logins_end_a_session(rig: Rig) -> None:
    with obedient_stage(rig, sections={"limits": {"max_bad_commands": 5}}) as stage:
        for line in (b"WHAT", b"AUTH PLAIN !", b"MAIL FROM:<a@example.org>", b"DATA", b""):
            with stage.stranger() as client:
                client.hello()
                assert [client.say(line)[:1] for _ in range(5)] == ["5"] * 5, line
                assert client.answer().startswith("421 4.7.0 ")
                assert client.answer() == ""
        still_serves(stage)


def test_too_many_recipients_are_refused_and_the_others_get_the_mail(rig: Rig) -> None:
    with (
        obedient_stage(rig, sections={"smtp": {"max_recipients": 3}}) as stage,
        stage.laptop() as client,
    ):
        client.begin("a@example.org", "b@example.org", "c@example.org")
        assert client.say(b"RCPT TO:<d@example.org>").startswith("452 4.5.3 ")
        assert client.content(MAIL).startswith("250 ")
        assert sum(command.startswith("RCPT") for command in stage.tap.commands) == 3


def test_there_is_room_for_all_that_may_read_and_all_that_may_send(rig: Rig) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        with obedient_stage(rig, sections={"limits": {"max_connections": 500}}) as stage:
            assert stage.proxy.may_open() > 1000
            assert "ulimit" not in stage.proxy.log()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_flood_of_connections_from_one_address_leaves_the_others_alone(rig: Rig) -> None:
    limits = {"max_connections_per_address": 20, "max_connections": 40}
    with obedient_stage(rig, sections={"limits": limits}) as stage, ExitStack() as stack:
        for _ in range(30):
            stack.enter_context(Submitter(stage.endpoint(), "127.0.1.1"))
        eventually(lambda: "too_many_from_address" in stage.proxy.log(), what="the limit")
        still_serves(stage)
        # From everywhere: the strangers that came first make room.
        for number in range(60):
            stack.enter_context(Submitter(stage.endpoint(), f"127.0.2.{number + 1}"))
        eventually(lambda: "too_many_connections" in stage.proxy.log(), what="the other limit")
        still_serves(stage)


def test_a_client_that_dawdles_before_its_login_is_dropped(rig: Rig) -> None:
    with (
        obedient_stage(rig, sections={"limits": {"login_timeout": "1s"}}) as stage,
        stage.stranger() as client,
    ):
        client.hello()
        client.write(b"AUTH PLAIN")
        assert client.answer().startswith("421 4.4.2 ")
        assert client.answer() == ""
