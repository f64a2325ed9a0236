"""What nobody but client and server is to see is in nothing that the proxy writes or shows."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from urllib.request import urlopen

import pytest

from tests.e2e.devices import Login
from tests.e2e.rig import Rig
from tests.e2e.submission_stage import SECRET, ObedientStage, obedient_stage
from tests.e2e.submitter import mail, plain

pytestmark = pytest.mark.e2e

WRONG = "planted-wrong-password"
TEXT = b"planted-text"
HIDDEN = "planted-hidden@example.org"

LIMIT = 400_000
"""Octets of a file on a disk that is full: more than the log, less than is held in memory."""


@pytest.fixture
def stage(rig: Rig) -> Iterator[ObedientStage]:
    with obedient_stage(rig, sections={"log": {"level": "debug"}}) as made:
        yield made


def forms(secret: str) -> set[bytes]:
    """As it may stand somewhere: plain, in base64 at each offset, as JSON and as the log has it."""
    octets = secret.encode()
    shifted = {base64.b64encode(b"x" * n + octets)[4 * (n > 0) : -4] for n in range(3)}
    return {octets, *shifted, ascii(secret)[1:-1].encode()}


def shown(stage: ObedientStage) -> bytes:
    """Log, metrics, and what commands print."""
    address = stage.proxy.addresses["http"][0]
    with urlopen(f"http://{address}/metrics", timeout=30) as answer:
        page: bytes = answer.read()
    printed = [
        stage.proxy.cli(*command).stdout.encode()
        for command in (("status",), ("status", "--json"), ("account", "show", stage.user.name))
    ]
    return b"\n".join([stage.proxy.log_file.read_bytes(), page, *printed])


def make_everything_happen(stage: ObedientStage, app_password: str) -> None:
    tablet = Login(f"{stage.user.name}+tablet", app_password)
    with stage.stranger() as client:
        client.hello()
        for login in (Login(stage.user.name, WRONG), Login("nobody", WRONG)):
            assert client.say(plain(login)).startswith("535 ")
        client.say(b"AUTH LOGIN")
        client.say(base64.b64encode(stage.user.name.encode()))
        client.say(base64.b64encode(WRONG.encode()) + b"\0")
        client.say(WRONG.encode())
        client.say(b"AUTH PLAIN " + WRONG.encode())
        assert client.say(plain(tablet)).startswith("235 ")
        assert client.send(mail("sent") + TEXT + b"\r\n").startswith("250 ")
        client.begin("bob@example.org", HIDDEN)
        assert client.content(mail("hidden") + TEXT + b"\r\n").startswith("250 ")
        harmful = mail("harmful") + TEXT + b"\r" + TEXT + b"\r\n"
        assert client.send(harmful).startswith("554 ")
        stage.upstream.answers["."] = "554 5.7.1 spam"
        assert client.send(mail("refused") + TEXT + b"\r\n").startswith("554 ")
        stage.upstream.answers.clear()
        for when in ("asked", "answered"):
            stage.tap.make_trouble("dot", when, "cut")
            assert client.send(mail("cut") + TEXT + b"\r\n").startswith("451 ")
        for point in ("AUTH", "MAIL", "dot"):
            secret = f"{SECRET} {base64.b64encode(SECRET.encode()).decode()}"
            stage.tap.drop()
            for code in ("451 4.7.0 ", "", "999 "):
                stage.tap.make_trouble(point, "answered", f"{code}{secret}\r\n".encode())
                client.send(mail("echoed") + TEXT + b"\r\n")
                client.say(b"RSET")
        # Once it is on its way: what cannot even be noted is not sent.
        stage.tap.make_trouble("dot", "answered", lambda: stage.proxy.limit_files(LIMIT))
        large = mail("large", octets=LIMIT + 10_000) + TEXT + b"\r\n"
        assert client.send(large).startswith("250 ")
        stage.proxy.limit_files()
        client.say(TEXT)
        client.say(b"MAIL FROM:<" + TEXT + b"\0>")
    stage.logged("sent_copy_missing")
    stage.logged("smtp_session_ended")


def test_no_password_and_no_content_is_shown_to_anybody(stage: ObedientStage) -> None:
    made = stage.proxy.cli_json("device", "add", stage.user.name, "tablet")
    app_password: str = made["app_password"]
    make_everything_happen(stage, app_password)
    everything = shown(stage)
    assert b"event=submission_ended" in everything
    # Nor what the store is given: hashes and keys are in that.
    assert b"INSERT INTO" not in everything
    for secret in (SECRET, app_password, WRONG, TEXT.decode(), HIDDEN):
        assert not [form for form in forms(secret) if form in everything], secret
    stage.proxy.stop()
    for file in (stage.proxy.folder / "data").rglob("*"):
        if file.is_file():
            kept = file.read_bytes()
            for secret in (SECRET, app_password):
                assert not [form for form in forms(secret) if form in kept], file
