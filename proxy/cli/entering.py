"""What to enter in the mail program of each computer, and what to do next."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from cryptography import x509

from proxy.adapters.certificate_names import own_names
from proxy.config.writing import CLIENT_ID, Answers
from proxy.domain.policy import MINUTE

WIDE_OPEN = ("0.0.0.0", "[::]", "*")  # noqa: S104 - not bound here
LOOPBACK = ("127.0.0.1", "[::1]", "localhost")

_ENTER = """\
Enter in the mail program of each computer, as a POP3 account:

  server      {server}
  port        {port}
  security    SSL/TLS
  login       normal password
  password    {password}
  user name   {users}

Mail may be left on the server or not: what a device deletes is gone for that device alone. The
outgoing server stays as it was. docs/clients.md shows it for each program.

Next:
{steps}"""


def what_to_enter(answers: Answers, devices: Iterable[str], config: str) -> str:
    """`config` as it is typed on the command line."""
    host, _, port = answers.listen_tls.rpartition(":")
    own = bool(answers.password_file)
    names = list(dict.fromkeys(devices))
    users = [f"{answers.address}+{device}" for device in names]
    return _ENTER.format(
        server=_servers(host, answers.certificate_names),
        port=port,
        password="that of the mailbox" if own else "made by `device add`, see below",
        users="\n              ".join(users),
        steps="\n".join(f"  {step}" for step in _steps(answers, names, config)),
    )


def _servers(host: str, addresses: tuple[str, ...]) -> str:
    if host in LOOPBACK:
        return "localhost"
    if host not in WIDE_OPEN:
        return host
    names = [name.value for name in own_names() if isinstance(name, x509.DNSName)]
    known = [*addresses, *(name for name in names if name != "localhost")]
    return " or ".join(known) or "the address of this machine"


def _steps(answers: Answers, devices: list[str], config: str) -> list[str]:
    option = "" if config == "proxy.toml" else f" --config {shlex.quote(config)}"
    steps = []
    if not answers.password_file:
        steps += [
            f"in {config}, put your client's ID for {CLIENT_ID} (docs/providers.md), then",
            f"pop3-sync-proxy account authorize {answers.address}{option}",
            *(f"pop3-sync-proxy device add {answers.address} {d}{option}" for d in devices),
        ]
    provider = answers.server.provider
    if provider is not None and provider.login_interval and answers.password_file:
        minutes = provider.login_interval / MINUTE
        steps.append(f"wait {minutes:.0f} min: {provider.title} takes no login before, then")
    return [
        *steps,
        f"pop3-sync-proxy serve{option}",
        "    runs the proxy; docs/operating.md has it start by itself",
        f"pop3-sync-proxy certificate --pem{option} > ca.pem",
        "    is the certificate that each computer has to trust, once",
    ]
