"""The configuration file that `init` writes: the few keys that matter, each with what it does."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.domain.allowed import check_pattern
from proxy.services.discovery import Found, toml_text

CLIENT_ID = "YOUR CLIENT'S ID"
"""To be replaced by the person who has registered an OAuth 2.0 client."""

_HEAD = """\
# pop3-sync-proxy: the keys that matter most, as `init` wrote them. config/proxy.toml has all.
#
# Times are "30s", "5m", "2h" or "30d". Paths are relative to this file.

# Everything the proxy keeps: messages, catalogue, its own certificate. On a local disk.
data_dir = "data"

# --- The face that devices talk to --------------------------------------------------------------
[pop3]
# For mail programs on this machine itself, which need no TLS.
listen = ["127.0.0.1:1110"]
# For all computers that can reach this one, with TLS. 995 is the usual port, but those below 1024
# are for root and for services that were given the right. "127.0.0.1:PORT" is this machine alone.
listen_tls = [{listen_tls}]
# What those computers call this machine, beside the host name it has; the certificate is made for
# these. When its address changes, change it here.
certificate_names = [{names}]
"""

_PROVIDER = """
# --- The server that holds the real mailbox -----------------------------------------------------
[upstream]
# A provider that is known; stands for {host}, port {port}, with TLS. docs/providers.md
# says what has to be switched on there.
provider = {provider}
"""

_SERVER = """
# --- The server that holds the real mailbox -----------------------------------------------------
[upstream]
# The host that stood in the mail program so far.
host = {host}
# 995 for "implicit", 110 for the others.
port = {port}
# "implicit" (TLS from the first byte), "starttls" (STLS, which must succeed) or "none".
tls = {tls}
"""

_CA_FILE = """\
# PEM file with a trust root beside the system's.
ca_file = {ca_file}
"""

_CLIENT = """\
# For OAuth 2.0: the client that you have registered with the provider (docs/providers.md), then
# `pop3-sync-proxy account authorize NAME`.
oauth_client_id = {client_id}
"""

_NO_PRESET = """\
# Where a browser asks for consent, where tokens come from, and what to ask for: your provider's
# page on OAuth 2.0 for mail programs has these.
#oauth_authorization_url = ""
#oauth_token_url = ""
#oauth_scope = ""
"""

_POLICY = """
# --- When the upstream is asked -----------------------------------------------------------------
[sync]
# How often in the background. A mail program that asks gets what is new at any time.
interval = "5m"

# --- Devices ------------------------------------------------------------------------------------
[devices]
# A login without the name of a device behind the "+": "refuse" says what to write there, "allow"
# makes it the device "default", which two computers would then share.
unnamed = "refuse"

# --- When a message goes ------------------------------------------------------------------------
[retention]
# When to delete upstream: "keep" (never), "delivered" (every active device has it; set all of them
# up first), "age" (after upstream_age, such as "30d"), "delivered-or-age" (whichever comes first).
upstream = "keep"
# What deleting in a mail program does: hide the message from that "device", or delete it
# "everywhere", upstream too.
on_delete = "device"

# --- Accounts that are not declared below -------------------------------------------------------
[accounts]
# true: whoever has a mailbox on the same server can read it through the proxy as well, with its
# name and password and no line here.
pass_through = false
# Who may come beside the mailboxes below, if that is true: names, and "*@example.com" for all of a
# domain. [] is everybody.
allow = [{allow}]

# --- The mailbox; any number of them ------------------------------------------------------------
[[account]]
# What devices log in with, followed by + and the name of the device.
name = {name}
# The upstream login.
username = {username}
"""

_ACCOUNT_LOGIN = """\
# The file that holds the upstream password, which is what devices log in with, too.
password_file = {password_file}
"""


@dataclass(frozen=True, slots=True)
class Answers:
    """What `init` has found out."""

    address: str
    server: Found
    ca_file: str
    """"": the system's trust roots do."""
    password_file: str
    """"": it logs in with OAuth 2.0."""
    listen_tls: str
    certificate_names: tuple[str, ...]


def render(answers: Answers) -> str:
    server = answers.server
    parts = [
        _HEAD.format(
            listen_tls=toml_text(answers.listen_tls),
            names=", ".join(map(toml_text, answers.certificate_names)),
        )
    ]
    if server.provider is not None:
        name = toml_text(server.provider.name)
        parts.append(_PROVIDER.format(host=server.host, port=server.port, provider=name))
    else:
        host, tls = toml_text(server.host), toml_text(server.tls)
        parts.append(_SERVER.format(host=host, port=server.port, tls=tls))
    if answers.ca_file:
        parts.append(_CA_FILE.format(ca_file=toml_text(answers.ca_file)))
    if not answers.password_file:
        parts.append(_CLIENT.format(client_id=toml_text(CLIENT_ID)))
        if server.provider is None:
            parts.append(_NO_PRESET)
    parts.append(
        _POLICY.format(
            name=toml_text(answers.address),
            username=toml_text(server.username),
            allow=_allowed(answers.address),
        )
    )
    if answers.password_file:
        parts.append(_ACCOUNT_LOGIN.format(password_file=toml_text(answers.password_file)))
    return "".join(parts)


def _allowed(address: str) -> str:
    """Nothing for an address that would be taken for a pattern; declared, it is let in anyway."""
    try:
        check_pattern(address)
    except ValueError:
        return ""
    return toml_text(address)
