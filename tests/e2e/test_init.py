"""`init`: from an address and a password to a proxy that devices use, with a real upstream."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.devices import Endpoint
from tests.e2e.dovecot import User
from tests.e2e.poplib_device import PoplibDevice
from tests.e2e.proxy import ProxyProcess
from tests.e2e.rig import Rig, login, small_mails
from tests.e2e.terminal import Terminal

pytestmark = pytest.mark.e2e


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "own"
    made.mkdir()
    return made


def arguments(rig: Rig, *more: str) -> list[str]:
    """For the Dovecot of the tests over TLS, and any free port for devices."""
    where = ["--host", "localhost", "--port", str(rig.dovecot.tls_port), "--tls", "implicit"]
    trust = ["--ca-file", str(rig.certificates.ca_file), "--listen", "127.0.0.1:0"]
    return [sys.executable, "-m", "proxy", "init", *where, *trust, *more]


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("POP3_SYNC_")}
    return {**kept, "TERM": "dumb"}


def init(command: list[str], folder: Path, typed: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env=environment(),
        input=typed,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def secret_of(folder: Path, user: User) -> Path:
    return folder / "secrets" / user.name


def serving(rig: Rig, folder: Path) -> ProxyProcess:
    """The proxy on what `init` has written; fixed ports alone are changed to free ones."""
    proxy = ProxyProcess(rig.folder / "serving", rig.certificates, {})
    rig.proxies.append(proxy)
    proxy.folder, proxy.config = folder, folder / "proxy.toml"
    text = proxy.config.read_text()
    assert text.count("127.0.0.1:1110") == 1
    free = text.replace("127.0.0.1:1110", "127.0.0.1:0") + '[http]\nlisten = "127.0.0.1:0"\n'
    proxy.config.write_text(free)
    assert proxy.cli("check").returncode == 0
    proxy.start()
    return proxy


def devices(proxy: ProxyProcess, user: User, *names: str) -> list[PoplibDevice]:
    """Over TLS, trusting what `certificate` prints and nothing else."""
    ca_file = proxy.folder / "ca.pem"
    ca_file.write_text(proxy.cli("certificate", "--pem").stdout)
    port = int(proxy.addresses["pop3s"][0].rpartition(":")[2])
    endpoint = Endpoint("localhost", port, "implicit", ca_file)
    return [PoplibDevice(endpoint, login(user, name)) for name in names]


def test_an_address_and_a_password_are_enough_for_two_devices(rig: Rig, folder: Path) -> None:
    user = rig.dovecot.add_user("alice@example.com", "correct horse")
    mails = small_mails(3, "first")
    rig.dovecot.deliver(user, *mails)
    command = arguments(rig, user.name, "--password-file", "-")
    done = init(command, folder, f"{user.password}\n")
    assert done.returncode == 0, done.stderr
    assert "Login accepted: 3 messages" in done.stderr
    for told in ("localhost", f"{user.name}+laptop", f"{user.name}+desktop", "certificate --pem"):
        assert told in done.stdout
    assert user.password not in done.stdout + done.stderr + (folder / "proxy.toml").read_text()
    assert secret_of(folder, user).stat().st_mode & 0o777 == 0o600

    proxy = serving(rig, folder)
    for device in devices(proxy, user, "laptop", "desktop"):
        device.poll()
        assert len(device.mails()) == len(mails)


def type_password(terminal: Terminal, user: User, password: str) -> None:
    # The space comes once nothing that is typed is shown any more.
    terminal.wait_for(f"Password of {user.name}: ")
    terminal.type(password)


def assert_nothing_is_there(folder: Path) -> None:
    assert list(folder.iterdir()) == []


def test_a_person_is_asked_for_what_is_missing_and_may_try_again(rig: Rig, folder: Path) -> None:
    user = rig.dovecot.add_user()
    rig.dovecot.deliver(user, *small_mails(2, "asked"))
    with Terminal(arguments(rig, "--device", "office"), folder, environment()) as terminal:
        terminal.wait_for("E-mail address: ")
        terminal.type(user.name)
        type_password(terminal, user, "not this one")
        terminal.wait_for(f"localhost refuses the login of {user.name}: ")
        terminal.wait_for(f"User name [{user.name}]: ")
        assert_nothing_is_there(folder)
        terminal.type("")
        type_password(terminal, user, user.password)
        terminal.wait_for(f"{user.name}+office")
        assert terminal.end() == 0
        assert user.password not in terminal.screen
    (device,) = devices(serving(rig, folder), user, "office")
    device.poll()
    assert len(device.mails()) == 2


def test_who_stops_it_leaves_nothing_behind(rig: Rig, folder: Path) -> None:
    user = rig.dovecot.add_user()
    with Terminal(arguments(rig, user.name), folder, environment()) as terminal:
        terminal.wait_for(f"Password of {user.name}: ")
        terminal.interrupt()
        assert terminal.end() == 1
        assert "Traceback" not in terminal.screen
    assert_nothing_is_there(folder)


def test_who_stops_it_while_a_server_is_silent_leaves_nothing_behind(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        where = ["--host", "127.0.0.1", "--port", str(server.getsockname()[1]), "--tls", "none"]
        command = [sys.executable, "-m", "proxy", "init", "alice", *where]
        with Terminal(command, folder, environment()) as terminal:
            terminal.wait_for("Password of alice: ")
            terminal.type("secret")
            connection, _ = server.accept()
            with connection:
                terminal.interrupt()
                assert terminal.end() != 0
            assert "Traceback" not in terminal.screen
    assert_nothing_is_there(folder)


def test_a_refused_login_writes_nothing_and_says_what_upstream_said(rig: Rig, folder: Path) -> None:
    user = rig.dovecot.add_user()
    done = init(arguments(rig, user.name, "--password-file", "-"), folder, "wrong\n")
    assert done.returncode == 1
    assert "Authentication failed" in done.stderr
    assert "password of their own" in done.stderr
    assert done.stdout == ""
    assert_nothing_is_there(folder)


def test_what_exists_is_left_as_it_is(rig: Rig, folder: Path) -> None:
    user = rig.dovecot.add_user()
    command = arguments(rig, user.name, "--password-file", "-")
    for path in (folder / "proxy.toml", secret_of(folder, user)):
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine\n")
        done = init(command, folder, f"{user.password}\n")
        assert done.returncode == 2
        assert f"{path.relative_to(folder)} exists already" in done.stderr
        assert path.read_text() == "mine\n"
        path.unlink()
    secret_of(folder, user).parent.rmdir()
    assert_nothing_is_there(folder)


def test_without_a_terminal_it_names_the_option_that_is_missing(rig: Rig, folder: Path) -> None:
    user = rig.dovecot.add_user()
    for command, option in (
        (arguments(rig), "ADDRESS"),
        (arguments(rig, user.name), "--password-file"),
        (arguments(rig, user.name, "--password-file", "-"), "the password is empty"),
        (arguments(rig, user.name, "--password-file", "nowhere"), "nowhere"),
        (arguments(rig, user.name, "--device", "my laptop"), "my laptop"),
        (arguments(rig, user.name, "--tls", "ssl"), "implicit"),
        (arguments(rig, user.name, "--config", "nowhere/proxy.toml"), "nowhere"),
        (arguments(rig, user.name, "--host", ""), "--host"),
    ):
        done = init(command, folder)
        assert done.returncode == 2, done.stderr
        assert option in done.stderr
    assert_nothing_is_there(folder)


def test_only_the_kind_of_tls_that_a_port_speaks_is_found(rig: Rig, folder: Path) -> None:
    user = rig.dovecot.add_user()
    password = folder / "password"
    password.write_text(f"{user.password}\n")
    for port, tls in ((rig.dovecot.port, "starttls"), (rig.dovecot.tls_port, "implicit")):
        command = [sys.executable, "-m", "proxy", "init", user.name, "--host", "localhost"]
        more = ["--port", str(port), "--ca-file", str(rig.certificates.ca_file)]
        target = folder / f"{tls}.toml"
        end = ["--config", str(target), "--password-file", str(password)]
        done = init([*command, *more, *end], folder)
        assert done.returncode == 0, done.stderr
        assert f'tls = "{tls}"' in target.read_text()
        assert 'password_file = "password"' in target.read_text()
        assert f"serve --config {target.name}" in done.stdout
    assert not (folder / "secrets").exists()


def test_a_provider_that_takes_oauth_alone_gets_the_lines_for_it(folder: Path) -> None:
    done = init([sys.executable, "-m", "proxy", "init", "me@gmail.com"], folder)
    assert done.returncode == 0, done.stderr
    text = (folder / "proxy.toml").read_text()
    assert 'provider = "gmail"' in text
    assert "oauth_client_id" in text
    assert "password_file" not in text
    assert "account authorize me@gmail.com" in done.stdout
    assert not (folder / "secrets").exists()
