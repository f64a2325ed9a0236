"""Rights end at once: the operator's commands on a proxy with sessions open."""

from __future__ import annotations

import poplib
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest

from tests.e2e.devices import Login
from tests.e2e.poplib_device import Session, logged_in
from tests.e2e.proxy import ProxyProcess
from tests.e2e.rig import Rig, login, small_mails
from tests.e2e.smtp_tap import SmtpTap
from tests.e2e.submission_stage import Stage, obedient_server
from tests.e2e.submitter import Submitter, plain
from tests.e2e.waiting import eventually

pytestmark = pytest.mark.e2e

SECOND = 1.0


class Ear:
    """Hears what a connection says unasked, and when."""

    def __init__(self, listen: Callable[[], str]) -> None:
        self.at = 0.0
        self.said = ""
        self._thread = threading.Thread(target=self._hear, args=(listen,), daemon=True)
        self._thread.start()

    def _hear(self, listen: Callable[[], str]) -> None:
        self.said = listen()
        self.at = time.monotonic()

    def heard_by(self, deadline: float) -> str:
        self._thread.join(30)
        assert not self._thread.is_alive(), "nothing was said"
        assert self.at <= deadline
        return self.said


def ear(session: Session) -> Ear:
    return Ear(lambda: session.file.readline().decode())


@contextmanager
def two_protocols(rig: Rig) -> Iterator[tuple[ProxyProcess, Login]]:
    """A proxy that sends as well; alice's device laptop has an app password."""
    with obedient_server("secret") as server, SmtpTap("127.0.0.1", server.port) as tap:
        stage = Stage(rig, tap, "secret")
        rig.dovecot.deliver(stage.user, *small_mails(2, "rights"))
        assert stage.proxy.cli("account", "sync", stage.user.name).returncode == 0
        made = stage.proxy.cli_json("device", "add", stage.user.name, "tablet")
        yield stage.proxy, Login(stage.user.name, made["app_password"])


def test_a_device_that_is_removed_reads_and_sends_nothing_any_more(rig: Rig) -> None:
    with two_protocols(rig) as (proxy, tablet):
        with (
            logged_in(proxy.endpoint(), tablet) as session,
            Submitter(proxy.smtp_endpoint()) as sender,
        ):
            sender.answer()
            sender.say(b"EHLO client")
            assert sender.say(plain(tablet)).startswith("235 ")
            session.body("RETR 1")
            session.dele(1)
            pop3, smtp = ear(session), Ear(sender.answer)
            assert proxy.cli("device", "remove", tablet.user, "tablet").returncode == 0
            deadline = time.monotonic() + SECOND
            assert pop3.heard_by(deadline).startswith("-ERR [AUTH] ")
            assert smtp.heard_by(deadline).startswith("421 4.7.0 ")
            with pytest.raises((OSError, poplib.error_proto, EOFError)):
                session.quit()
        eventually(lambda: proxy.log().count("ended=revoked") == 2, what="the ends in the log")
        assert "Traceback" not in proxy.log()
        (row,) = proxy.cli_json("message", "list", tablet.user)[:1]
        assert "tablet" not in str(row)


def test_a_device_that_is_reset_has_to_log_in_again(rig: Rig) -> None:
    user = rig.dovecot.add_user()
    rig.dovecot.deliver(user, *small_mails(1, "reset"))
    proxy = rig.proxy(user)
    with (
        logged_in(proxy.endpoint(), login(user, "laptop")) as session,
        logged_in(proxy.endpoint(), login(user, "phone")) as bystander,
    ):
        heard = ear(session)
        assert proxy.cli("device", "reset", user.name, "laptop").returncode == 0
        assert heard.heard_by(time.monotonic() + SECOND).startswith("-ERR [SYS/TEMP] ")
        assert bystander.quit().startswith(b"+OK")
    with logged_in(proxy.endpoint(), login(user, "laptop")) as session:
        assert session.quit().startswith(b"+OK")


def test_a_reload_with_another_password_ends_the_sessions_of_the_old_one_alone(rig: Rig) -> None:
    user, other = rig.dovecot.add_user(), rig.dovecot.add_user()
    proxy = rig.proxy(user, other)
    made = proxy.cli_json("device", "add", user.name, "tablet")
    with (
        logged_in(proxy.endpoint(), login(user, "laptop")) as session,
        logged_in(proxy.endpoint(), Login(user.name, made["app_password"])) as tablet,
        logged_in(proxy.endpoint(), login(other, "laptop")) as bystander,
    ):
        heard = ear(session)
        text = proxy.config.read_text()
        whole = f'name = "{user.name}"\npassword = "{user.password}"'
        assert whole in text
        changed = f'name = "{user.name}"\npassword = "another one"'
        proxy.config.write_text(text.replace(whole, changed))
        proxy.send(signal.SIGHUP)
        eventually(lambda: bool(heard.said), what="the end of the session")
        assert heard.said.startswith("-ERR [AUTH] ")
        assert tablet.quit().startswith(b"+OK")
        assert bystander.quit().startswith(b"+OK")
    with (
        pytest.raises(poplib.error_proto),
        logged_in(proxy.endpoint(), login(user, "laptop")),
    ):
        pass


def test_a_removed_account_leaves_no_trace_but_in_copies_that_are_named(rig: Rig) -> None:
    user = rig.dovecot.add_user()
    rig.dovecot.deliver(user, *small_mails(2, "erased"))
    proxy = rig.proxy()
    data = proxy.folder / "data"
    rig.device(proxy, user, "laptop").poll()
    with closing(sqlite3.connect(data / "catalogue.db")) as catalogue:
        catalogue.execute("VACUUM INTO ?", (str(data / "catalogue-v1.db"),))
        catalogue.execute("VACUUM INTO ?", (str(data / "catalogue-v2.db"),))
    with closing(sqlite3.connect(data / "catalogue-v2.db", isolation_level=None)) as copy:
        copy.execute("PRAGMA secure_delete = ON")
        copy.execute("DELETE FROM account")
        copy.execute("VACUUM")
    with logged_in(proxy.endpoint(), login(user, "laptop")) as session:
        heard = ear(session)
        done = proxy.cli("account", "remove", user.name, "--yes")
        assert done.returncode == 0, done.stderr
        assert heard.heard_by(time.monotonic() + SECOND).startswith("-ERR [AUTH] ")
    assert "catalogue-v1.db" in done.stdout
    assert "catalogue-v2.db" not in done.stdout
    (data / "catalogue-v1.db").unlink()
    files = [path for path in data.rglob("*") if path.is_file()]
    assert [p.name for p in files if user.name.encode() in p.read_bytes()] == []
    assert [p.name for p in files if b"$argon2id" in p.read_bytes()] == []


def test_a_session_has_a_longest_life(rig: Rig) -> None:
    user = rig.dovecot.add_user()
    proxy = rig.proxy(user, sections={"limits": {"max_session": "1s"}})
    with logged_in(proxy.endpoint(), login(user, "laptop")) as session:
        assert ear(session).heard_by(time.monotonic() + 20).startswith("-ERR [SYS/TEMP] ")
