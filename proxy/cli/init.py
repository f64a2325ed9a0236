"""`init`: from an address and a password to a configuration that works."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, cast, get_args

import typer

from proxy.adapters import logs
from proxy.adapters.certificate_names import lan_address
from proxy.adapters.lookup import NetLookup
from proxy.adapters.new_files import NewFile, write_new
from proxy.adapters.password_sources import from_file
from proxy.app import upstream_world
from proxy.cli.asking import Person, person, say
from proxy.cli.common import FAILED, errors_end_the_command, run
from proxy.cli.entering import what_to_enter
from proxy.cli.finding import ByHand, described, find
from proxy.config import values
from proxy.config.schema import Settings
from proxy.config.values import WrongValue
from proxy.config.writing import Answers, render
from proxy.domain.errors import BadRequest, PasswordUnavailable, UpstreamRefusedLogin
from proxy.domain.model import Credentials, is_valid_device_name
from proxy.domain.password_source import why_unusable
from proxy.domain.policy import MINUTE, TlsMode, UpstreamServer
from proxy.interfaces.world import World
from proxy.services.discovery import Found, file_name_for
from proxy.services.upstream_trial import Trial, try_upstream

STDIN = "-"
DEVICES = ["laptop", "desktop"]


def init(
    address: Annotated[str, typer.Argument(help="Your e-mail address.", show_default=False)] = "",
    config: Annotated[
        Path,
        typer.Option(envvar="POP3_SYNC_CONFIG", help="The file to write; it must not exist yet."),
    ] = Path("proxy.toml"),
    host: Annotated[
        str, typer.Option(help="Your provider's POP3 server; looked for where it is not given.")
    ] = "",
    port: Annotated[
        int, typer.Option(help="Its port; 995 and 110 are tried.", show_default=False)
    ] = 0,
    tls: Annotated[
        str, typer.Option(help="Its kind of TLS: implicit, starttls or none; two are tried.")
    ] = "",
    ca_file: Annotated[
        str, typer.Option(help="PEM file with a trust root beside the system's, for that server.")
    ] = "",
    username: Annotated[str, typer.Option(help="Its login name, if not the address.")] = "",
    password_file: Annotated[
        str,
        typer.Option(help="The file that holds the password, or - for one line of standard input."),
    ] = "",
    device: Annotated[
        list[str] | None,
        typer.Option(help="A computer's name, any number of times.  [default: laptop, desktop]"),
    ] = None,
    listen: Annotated[
        str, typer.Option(help="Where computers reach the proxy, over TLS.")
    ] = "0.0.0.0:1995",
    yes: Annotated[
        bool, typer.Option("--yes", help="Use a server that DNS or autoconfiguration names.")
    ] = False,
) -> None:
    """Write a configuration for a mailbox, and say what to enter on each computer.

    Asks for what is not given, finds the mailbox's server, tries the login, and only then writes
    anything. A file that exists is never touched.
    """
    with errors_end_the_command():
        logs.configure("error", "text")
        config = config.absolute()
        _must_be_free(config)
        if not config.parent.is_dir():
            raise BadRequest(f"{config.parent} is no folder")
        said = _said(host, port, tls, username, ca_file)
        devices = device or DEVICES
        _check(listen, devices)
        asked = person(agrees=yes)
        address = _login(address or asked.text("E-mail address", option="ADDRESS"))
        secret = config.parent / "secrets" / file_name_for(address)
        if password_file in ("", STDIN):
            _must_be_free(secret)
        world = upstream_world(Settings())
        server = find(address, said, asked, NetLookup(), world)
        password = b""
        if not server.needs_oauth or password_file:
            server, password = _logged_in(server, said, asked, password_file, world)
        else:
            say("It wants OAuth 2.0. Where it takes an app password too: --password-file -")
        answers = Answers(
            address=address,
            server=server,
            ca_file=said.ca_file,
            password_file=_named(password_file, secret, config) if password else "",
            listen_tls=listen,
            certificate_names=tuple(filter(None, [lan_address()])),
        )
        files = [NewFile(config, _text(answers), 0o644)]
        if password and password_file in ("", STDIN):
            files.insert(0, NewFile(secret, password + b"\n", 0o600))
        write_new(*files)
    say("Written: " + ", ".join(_shown(file.path) for file in reversed(files)) + "\n")
    typer.echo(what_to_enter(answers, devices, _shown(config)))


def _said(host: str, port: int, tls: str, username: str, ca_file: str) -> ByHand:
    try:
        return ByHand(
            values.host(host),
            values.port(port) if port else 0,
            cast(TlsMode, values.choice(tls, get_args(TlsMode))) if tls else None,
            values.login(username) if username else "",
            values.file(Path.cwd())(ca_file),
        )
    except WrongValue as error:
        raise BadRequest(str(error)) from None


def _check(listen: str, devices: list[str]) -> None:
    try:
        values.address(listen)
    except WrongValue as error:
        raise BadRequest(str(error)) from None
    for device in devices:
        if not is_valid_device_name(device):
            raise BadRequest(f"{device!r} is no device name: 1 to 32 of A-Z a-z 0-9 . _ -")


def _login(name: str) -> str:
    try:
        return values.login(name)
    except WrongValue:
        raise BadRequest(f"{name!r} is no address") from None


def _must_be_free(path: Path) -> None:
    if os.path.lexists(path):
        raise BadRequest(f"{_shown(path)} exists already, and is left as it is")


def _logged_in(
    found: Found, said: ByHand, person: Person, password_file: str, world: World
) -> tuple[Found, bytes]:
    """Once the server has accepted the login; a person may try several times.

    Raises:
        typer.Exit: it cannot be tried, or nobody is there to try again; what is wrong is said.
    """
    password = _given(password_file, person, found)
    while True:
        server = UpstreamServer(found.host, found.port, found.tls, said.ca_file)
        trial = run(try_upstream(world, server, Credentials(found.username, password)))
        if trial.error is None:
            break
        _explain(found, trial)
        waits = found.provider is not None and found.provider.login_interval > 0
        if not isinstance(trial.error, UpstreamRefusedLogin) or password_file or waits:
            raise typer.Exit(FAILED)
        name = person.text("User name", option="--username", default=found.username)
        found = replace(found, username=name)
        password = person.password(f"Password of {name}", option="--password-file")
    say(f"Login accepted: {trial.messages} messages.")
    return found, password


def _given(password_file: str, person: Person, found: Found) -> bytes:
    if password_file not in ("", STDIN):
        try:
            return _usable(from_file(Path(password_file), values.show(password_file)))
        except PasswordUnavailable as error:
            raise BadRequest(f"--password-file: {error}") from None
    if password_file == STDIN and not person.terminal:
        return _usable(sys.stdin.buffer.readline().removesuffix(b"\n").removesuffix(b"\r"))
    kind = found.provider.login if found.provider else "password"
    what = "App password" if kind == "app-password" else "Password"
    return person.password(f"{what} of {found.username}", option="--password-file FILE (or -)")


def _usable(password: bytes) -> bytes:
    if why := why_unusable(password):
        raise BadRequest(f"--password-file: {why}")
    return password


def _explain(found: Found, trial: Trial) -> None:
    """What the server said, and what a person can do."""
    if not isinstance(trial.error, UpstreamRefusedLogin):
        say(f"{described(found)}: {trial.error}")
        return
    say(f"{found.host} refuses the login of {found.username}: {trial.error}")
    provider = found.provider
    if provider is None or not provider.hints:
        say(
            "  Besides a slip, it may be that POP3 has to be switched on in the settings of the\n"
            "  mailbox, or that mail programs need a password of their own, made there."
        )
    for hint in provider.hints if provider else ():
        say(f"  {hint}")
    if provider is not None:
        say(f"  {provider.sources[0]}")
        if provider.login_interval:
            minutes = provider.login_interval / MINUTE
            say(
                f"  It may also be that the last login is less than {minutes:.0f} min ago. Close "
                "other mail programs,\n  wait so long, and try again."
            )


def _text(answers: Answers) -> bytes:
    try:
        return render(answers).encode()
    except UnicodeEncodeError:
        raise BadRequest("a path that is not UTF-8 cannot stand in the configuration") from None


def _named(password_file: str, secret: Path, config: Path) -> str:
    """As the configuration names it: relative to itself where that goes down."""
    path = secret if password_file in ("", STDIN) else Path(password_file).absolute()
    base = config.parent
    return str(path.relative_to(base) if path.is_relative_to(base) else path)


def _shown(path: Path) -> str:
    """As short as it can be typed here."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
