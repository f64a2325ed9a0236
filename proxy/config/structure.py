"""From TOML's dicts to the schema's classes, by cattrs; every wrong value is a `WrongValue`
somewhere in the exception group it raises.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from cattrs import Converter
from cattrs.errors import IterableValidationError, IterableValidationNote
from cattrs.gen import make_dict_structure_fn, override

from proxy.config import values
from proxy.config.schema import (
    AccountsSettings,
    Address,
    FilePath,
    HostName,
    HttpSettings,
    Listening,
    LogSettings,
    Pattern,
    Pop3Settings,
    SecretsSettings,
    Settings,
    SmtpSettings,
)
from proxy.domain.policy import (
    AlertsPolicy,
    DevicePolicy,
    LimitsPolicy,
    MailAddress,
    Network,
    Octets,
    RetentionPolicy,
    Seconds,
    SmtpServer,
    StorePolicy,
    SyncPolicy,
    UpstreamServer,
)

Hook = Callable[[Any, Any], Any]


@dataclass(frozen=True, slots=True)
class AccountTable:
    """[[account]] as it stands in the file: the password not fetched, the policy not merged."""

    name: str
    username: str = ""
    password: Any = field(default=None, repr=False)
    password_file: Any = None
    password_env: Any = None
    password_command: Any = None
    password_stored: bool = False
    upstream: UpstreamServer = field(default_factory=UpstreamServer)
    sync: SyncPolicy = field(default_factory=SyncPolicy)
    devices: DevicePolicy = field(default_factory=DevicePolicy)
    retention: RetentionPolicy = field(default_factory=RetentionPolicy)
    smtp: SmtpServer = field(default_factory=SmtpServer)


def converter(base: Path) -> Converter:
    """A strict converter to the classes of the schema; paths in the file are relative to `base`."""
    made = Converter(forbid_extra_keys=True, detailed_validation=True)
    for kind, read in (
        (str, values.text),
        (bool, values.truth),
        (int, values.whole_number),
        (Seconds, values.duration),
        (Octets, values.size),
        (Address, values.address),
        (MailAddress, values.mail_address),
        (Listening, values.listening(base)),
        (Pattern, values.pattern),
        (FilePath, values.file(base)),
        (HostName, values.host_name),
        (Path, values.directory(base)),
    ):
        made.register_structure_hook(kind, _hook(read))
    made.register_structure_hook_func(
        _is_choice,
        lambda value, kind: values.choice(value, get_args(kind)),
    )
    made.register_structure_hook_func(lambda kind: kind == Network, _hook(values.network))
    made.register_structure_hook_factory(_is_list, lambda kind: _list_of(get_args(kind)[0], made))
    some_time, login = _hook(values.some_time), _hook(values.login)
    positive = _hook(values.positive)
    _register(made, Pop3Settings, autologout=_hook(values.autologout))
    _register(
        made,
        LimitsPolicy,
        max_connections=positive,
        max_connections_per_address=positive,
        login_timeout=some_time,
        max_bad_commands=positive,
        max_line=_hook(values.size_from(255)),
        login_octets=_hook(values.size_from(255)),
        upstream_refusals=positive,
        upstream_refusals_per_host=positive,
        max_devices=positive,
        max_new_accounts=positive,
    )
    _register(
        made,
        UpstreamServer,
        host=_hook(values.host),
        port=_hook(values.port),
        ca_file=_hook(values.file(base)),
        provider=_hook(values.provider),
        oauth_authorization_url=_hook(values.url),
        oauth_token_url=_hook(values.url),
        oauth_device_url=_hook(values.url),
    )
    smtp = {
        "host": _hook(values.host),
        "port": _hook(values.port),
        "ca_file": _hook(values.file(base)),
        "client_certificate": _hook(values.file(base)),
        "client_key": _hook(values.file(base)),
    }
    _register(made, SmtpServer, **smtp)
    _register(
        made,
        SmtpSettings,
        max_message_size=_hook(values.size_from(1024)),
        max_recipients=positive,
        **smtp,
    )
    _register(
        made,
        SyncPolicy,
        interval=some_time,
        max_sessions_per_host=positive,
        max_message_size=_hook(values.size_from(1024)),
    )
    _register(
        made,
        DevicePolicy,
        separator=_hook(values.separator),
        backlog=_hook(values.backlog),
    )
    _register(made, RetentionPolicy)
    _register(made, StorePolicy)
    _register(made, AccountsSettings)
    _register(made, SecretsSettings)
    _register(made, HttpSettings, listen=_hook(values.address_or_none))
    _register(
        made,
        AlertsPolicy,
        sender=_hook(values.mail_address_or_none),
        host=_hook(values.host),
        port=_hook(values.port),
        ca_file=_hook(values.file(base)),
        username=_hook(values.login_or_none),
        password_file=_hook(values.path_or_none(base)),
        max_per_hour=positive,
    )
    _register(made, LogSettings)
    _register(made, AccountTable, name=login, username=login)
    _register(made, Settings)
    return made


def _is_choice(kind: Any) -> bool:
    origin: Any = get_origin(kind)
    return origin is Literal


def _is_list(kind: Any) -> bool:
    origin: Any = get_origin(kind)
    return origin is tuple


def _hook(read: Callable[[Any], Any]) -> Hook:
    return lambda value, _: read(value)


def _register(made: Converter, cl: type[Any], **hooks: Hook) -> None:
    overrides: dict[str, Any] = {name: override(struct_hook=hook) for name, hook in hooks.items()}
    structure = make_dict_structure_fn(cl, made, **overrides)

    def table(value: Any, kind: Any) -> Any:
        # cattrs takes anything that can be indexed for a mapping.
        if not isinstance(value, dict):
            raise values.WrongValue(f"{values.show(value)} is not a table")
        return structure(value, kind)

    made.register_structure_hook(cl, table)


def _list_of(kind: Any, made: Converter) -> Hook:
    def structure(value: Any, _: Any) -> tuple[Any, ...]:
        # Text would be taken apart into its letters.
        if not isinstance(value, list):
            raise values.WrongValue(f"{values.show(value)} is not a list in [brackets]")
        items, problems = [], []
        for index, item in enumerate(value):
            try:
                items.append(made.structure(item, kind))
            except Exception as problem:
                # Whatever it is, it goes on in the group; cattrs collects the same way.
                problem.add_note(IterableValidationNote(f"item {index}", index, kind))
                problems.append(problem)
        if problems:
            raise IterableValidationError("list", problems, tuple)
        return tuple(items)

    return structure
