"""From a file and the environment to `Settings`, or to every problem there is."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from cattrs import Converter
from cattrs.errors import BaseValidationError

from proxy.config import credentials, environment, presets
from proxy.config.problems import KeyPath, Report
from proxy.config.schema import Settings
from proxy.config.structure import AccountTable, converter
from proxy.config.trust import why_not_own
from proxy.config.values import WrongValue, show
from proxy.domain.directory import DeclaredAccount
from proxy.domain.errors import BadConfig
from proxy.domain.login_name import canonical, unheard_of
from proxy.domain.model import Credentials
from proxy.domain.password_source import PasswordSource
from proxy.domain.policy import AccountPolicy, AlertsPolicy, SmtpServer
from proxy.domain.providers import PROVIDERS

Section = TypeVar("Section")

_NOT_OWN = (
    "{path}: found here, and not used: {why}, and it can say what is run. If you mean it, say "
    "--config {path}; if it is yours, chown it to you and `chmod go-w` it and its folder"
)


def load(path: Path | None, environ: Mapping[str, str], *, found: bool = False) -> Settings:
    """The settings of the file at `path` (None: there is none) with `environ` laid over them.

    A file that was only `found`, and that nobody has named, has to be root's or ours.

    Reads no password file and runs no password command. Every path in the result is absolute.

    Raises:
        BadConfig: with every problem found, one line each.
    """
    report = Report(str(path) if path else "")
    document = _read(path, found=found) if path else {}
    base = path.absolute().parent if path else Path.cwd()
    environment.overlay(document, environ, report)
    tables = document.pop("account", [])
    presets.expand(document)
    reader = converter(base)
    settings = _settings(document, reader, report)
    declared = _Accounts(settings or Settings(), reader, base, report).declare(tables)
    if settings is not None:
        secrets = replace(settings.secrets, key_file=base / settings.secrets.key_file)
        settings = replace(
            settings, account=declared, data_dir=base / settings.data_dir, secrets=secrets
        )
        _check_whole(settings, report, any_account=bool(tables))
    if settings is None or report.lines:
        raise BadConfig(report.lines)
    if not settings.upstream.host:
        settings = replace(settings, accounts=replace(settings.accounts, pass_through=False))
    return settings


def _read(path: Path, *, found: bool) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            if found and (why := why_not_own(path, os.fstat(file.fileno()))):
                raise BadConfig([_NOT_OWN.format(path=path, why=why)])
            return tomllib.loads(file.read().decode())
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise BadConfig([f"{path}: cannot be read: {why}"]) from None
    except UnicodeDecodeError as error:
        raise BadConfig([f"{path}: not UTF-8 text, at octet {error.start}"]) from None
    except tomllib.TOMLDecodeError as error:
        raise BadConfig([f"{path}: not TOML: {error}"]) from None


def _settings(document: dict[str, Any], reader: Converter, report: Report) -> Settings | None:
    try:
        return reader.structure(document, Settings)
    except BaseValidationError as error:
        report.add_all(error)
        return None


class _Accounts:
    """Reads the [[account]] tables over the defaults of the file."""

    def __init__(
        self,
        defaults: Settings,
        reader: Converter,
        base: Path,
        report: Report,
    ) -> None:
        self._defaults = defaults
        self._reader = reader
        self._base = base
        self._report = report

    def declare(self, tables: Any) -> tuple[DeclaredAccount, ...]:
        """Those accounts that have no problem."""
        if not isinstance(tables, list):
            self._report.add(("account",), "not a list of tables; write [[account]] above each")
            return ()
        found: dict[str, DeclaredAccount] = {}
        for index, table in enumerate(tables):
            account = self._account(("account", index), table)
            if account is None:
                continue
            key = canonical(account.name)
            if key in found:
                self._report.add(("account", index), _twice(found[key].name, account.name))
            found[key] = account
        return tuple(found.values())

    def _account(self, path: KeyPath, table: Any) -> DeclaredAccount | None:
        if not isinstance(table, dict):
            self._report.add(path, "not a table; write [[account]] above it")
            return None
        presets.expand(table)
        name = table.get("name")
        if isinstance(name, str) and name:
            self._report.account_names[int(path[1])] = name
        try:
            read = self._reader.structure(table, AccountTable)
        except BaseValidationError as error:
            self._password(path, table, needed=False)
            self._report.add_all(error, path)
            return None
        policy = AccountPolicy(
            upstream=_laid_over(self._defaults.upstream, read.upstream, table.get("upstream")),
            sync=_laid_over(self._defaults.sync, read.sync, table.get("sync")),
            devices=_laid_over(self._defaults.devices, read.devices, table.get("devices")),
            retention=_laid_over(self._defaults.retention, read.retention, table.get("retention")),
            smtp=_laid_over(self._defaults.smtp.server, read.smtp, table.get("smtp")),
        )
        needed = not read.password_stored and not policy.upstream.oauth_client_id
        password, source = self._password(path, table, needed=needed)
        if read.password_stored and (password or source):
            self._report.add((*path, "password_stored"), "the password stands here already")
        known = PROVIDERS.get(policy.upstream.provider)
        name = read.name.rpartition("@")[0] if known and known.local_part else ""
        login = Credentials(read.username or name or read.name, password)
        return DeclaredAccount(read.name, login, policy, read.password_stored, source)

    def _password(
        self, path: KeyPath, table: dict[str, Any], *, needed: bool
    ) -> tuple[bytes, PasswordSource | None]:
        """The password, or where it is; neither where there is none, or a problem with it."""
        given = [key for key in credentials.KEYS if key in table]
        if len(given) > 1:
            text = f"only one of {', '.join(given)} may stand here"
            self._report.add((*path, "password"), text)
        elif needed and not given:
            choice = ", ".join(credentials.KEYS[1:])
            text = f"needed, or one of {choice}, or password_stored = true"
            self._report.add((*path, "password"), text)
        if len(given) != 1:
            return b"", None
        key = given[0]
        try:
            if key == "password":
                return credentials.literal(table[key]), None
            place = self._report.where((*path, key))
            return b"", credentials.source(key, table[key], self._base, place)
        except WrongValue as error:
            self._report.add((*path, key), str(error))
            return b"", None


def _twice(first: str, second: str) -> str:
    if first == second:
        return "declared twice"
    return f"declared twice: {show(first)} and {show(second)} are two spellings of one name"


def _laid_over(default: Section, own: Section, table: dict[str, Any] | None) -> Section:
    """The default with those keys of its own that the account's table names."""
    target: Any = default
    laid: Section = replace(target, **{key: getattr(own, key) for key in table or {}})
    return laid


def _check_whole(settings: Settings, report: Report, *, any_account: bool) -> None:
    """What no single value shows."""
    pop3 = settings.pop3
    if not pop3.listen and not pop3.listen_tls:
        report.add(("pop3", "listen"), "at least one address is needed, here or in listen_tls")
    if pop3.private_key and not pop3.certificate:
        report.add(("pop3", "certificate"), "needed, as private_key is given")
    if pop3.certificate and not pop3.private_key and not _holds_key(pop3.certificate):
        report.add(("pop3", "private_key"), "needed, as the certificate file holds no key")
    _check_smtp(settings, report)
    if settings.accounts.pass_through and not settings.upstream.host and not any_account:
        report.add(
            ("upstream", "host"),
            "needed: the POP3 server that the mailboxes are on "
            f"(or {environment.PREFIX}UPSTREAM__HOST, or an [[account]] with one of its own)",
        )
    declared = {canonical(account.name) for account in settings.account}
    for pattern in settings.accounts.allow:
        name, device = unheard_of(pattern, settings.devices.separator)
        if device is not None and canonical(pattern) not in declared:
            report.add(
                ("accounts", "allow"),
                f"{show(pattern)} matches no account: {show(device)} is the name of a device "
                f"there; write {show(name)}",
            )
    key_file = settings.secrets.key_file
    if settings.data_dir.resolve() in key_file.resolve().parents:
        report.add(
            ("secrets", "key_file"),
            "this is in data_dir, so a copy of that would hold what it encrypts and the key",
        )
    _check_alerts(settings.alerts, report)
    for account in settings.account:
        if not account.policy.upstream.host:
            report.add(
                ("account", account.name, "upstream", "host"),
                "needed: the POP3 server that the mailbox is on, here or in [upstream]",
            )


def _check_alerts(alerts: AlertsPolicy, report: Report) -> None:
    if alerts.to and not alerts.host:
        report.add(("alerts", "host"), "needed: the SMTP server that takes the mail to `to`")
    if alerts.password and alerts.password_file:
        report.add(("alerts", "password"), "only one of password and password_file may stand here")
    if alerts.username and not (alerts.password or alerts.password_file):
        report.add(("alerts", "password_file"), "needed, as username is given")
    if alerts.username and alerts.tls == "none" and alerts.host not in _LOOPBACK:
        report.add(("alerts", "tls"), "the password would go over the network in clear text")


_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def _check_smtp(settings: Settings, report: Report) -> None:
    smtp = settings.smtp
    if (smtp.listen or smtp.listen_tls) and not any(
        server.host for server in (smtp, *(a.policy.smtp for a in settings.account))
    ):
        report.add(("smtp", "host"), "needed: the SMTP server that takes the mail")
    servers: list[tuple[KeyPath, SmtpServer]] = [(("smtp",), smtp.server)]
    servers += [(("account", a.name, "smtp"), a.policy.smtp) for a in settings.account]
    for path, server in servers:
        if server.client_key and not server.client_certificate:
            report.add((*path, "client_certificate"), "needed, as client_key is given")


def _holds_key(certificate: str) -> bool:
    return b"PRIVATE KEY-----" in Path(certificate).read_bytes()
