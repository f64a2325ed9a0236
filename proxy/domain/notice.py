"""Mail that the proxy writes, as octets (RFC 5322): ASCII, lines ended by CRLF."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime

from proxy.domain.plain_text import one_line

DOMAIN = "pop3-sync-proxy.invalid"
"""RFC 2606 §2: nobody can have it, so an answer is refused at once and goes to no stranger."""

NOBODY = f"pop3-sync-proxy <noreply@{DOMAIN}>"

HEADER = "X-POP3-Sync-Proxy"
"""What mail filters can look for."""

SUBJECT = 200

_ADDRESS = re.compile(r"[A-Za-z0-9._%+=-]{1,64}@[A-Za-z0-9.-]{1,190}[A-Za-z0-9]", re.ASCII)

_SIGNATURE = "\n-- \nWritten by pop3-sync-proxy itself; it does not read answers.\n"


def compose(
    *,
    subject: str,
    body: str,
    kind: str,
    token: str,
    at: float,
    sender: str = "",
    to: Sequence[str] = (),
) -> bytes:
    """A whole message. `token`, of letters and digits, makes its Message-ID unique; `sender` ""
    is nobody, whom no answer reaches. A recipient that is no plain address is left out.
    """
    plain = sender if _ADDRESS.fullmatch(sender) else ""
    mail = EmailMessage(policy=SMTP)
    mail["Date"] = format_datetime(datetime.fromtimestamp(at, UTC))
    mail["Message-ID"] = f"<{token}@{plain.rpartition('@')[2] or DOMAIN}>"
    mail["From"] = f"pop3-sync-proxy <{plain}>" if plain else NOBODY
    mail["To"] = ", ".join(each for each in to if _ADDRESS.fullmatch(each)) or "recipients:;"
    mail["Subject"] = one_line(subject, SUBJECT)
    # RFC 3834 §5: so that no vacation program answers.
    mail["Auto-Submitted"] = "auto-generated"
    mail[HEADER] = one_line(kind, 40)
    text = "\n".join(one_line_keeping_indent(line) for line in body.split("\n")) + _SIGNATURE
    mail.set_content(text, cte="7bit" if text.isascii() else "quoted-printable")
    return mail.as_bytes()


def one_line_keeping_indent(line: str) -> str:
    """A line of the body, whatever came into it: printable, and of a length that mail may have
    (RFC 5322 §2.1.1)."""
    return "".join(c if c.isprintable() else " " for c in line).rstrip()[:900]
