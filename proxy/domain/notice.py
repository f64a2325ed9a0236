"""Mail that the proxy writes, as octets (RFC 5322): ASCII, lines ended by CRLF.

Headers are written here and not by `email.message.EmailMessage`: that decodes what looks like an
encoded word in a value it is given, and writes the line breaks it finds there as they are.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from email.header import Header
from email.utils import format_datetime

from proxy.domain.plain_text import one_line, printable

DOMAIN = "pop3-sync-proxy.invalid"
"""RFC 2606 §2: nobody can have it, so an answer is refused at once and goes to no stranger."""

NOBODY = f"pop3-sync-proxy <noreply@{DOMAIN}>"

HEADER = "X-POP3-Sync-Proxy"
TROUBLE = "X-POP3-Sync-Proxy-Trouble"
"""What mail filters can look for."""

SUBJECT, LINE = 200, 900
"""Characters of the subject, and of a line of the body (RFC 5322 §2.1.1)."""

_ADDRESS = re.compile(r"[A-Za-z0-9._%+=-]{1,64}@[A-Za-z0-9.-]{1,190}[A-Za-z0-9]", re.ASCII)
_TOKEN = re.compile(r"[^a-z0-9_-]+")

_SIGNATURE = "\n-- \nWritten by pop3-sync-proxy itself; it does not read answers.\n"


def compose(
    *,
    subject: str,
    body: str,
    kind: str,
    trouble: str = "",
    token: str,
    at: float,
    sender: str = "",
    to: Sequence[str] = (),
) -> bytes:
    """A whole message. `kind`, `trouble` and `token` are of a-z, 0-9, "_" and "-"; the last makes
    the Message-ID unique. `sender` "" is nobody, whom no answer reaches. Who is no plain address
    is left out.
    """
    plain = sender if _ADDRESS.fullmatch(sender) else ""
    text = "\n".join(printable(line).rstrip()[:LINE] for line in body.split("\n")) + _SIGNATURE
    headers = {
        "Date": format_datetime(datetime.fromtimestamp(at, UTC)),
        "Message-ID": f"<{_TOKEN.sub('', token)}@{plain.rpartition('@')[2] or DOMAIN}>",
        "From": f"pop3-sync-proxy <{plain}>" if plain else NOBODY,
        "To": ",\r\n ".join(each for each in to if _ADDRESS.fullmatch(each)) or "recipients:;",
        "Subject": _unstructured("Subject", one_line(subject, SUBJECT)),
        # RFC 3834 §5: so that no vacation program answers.
        "Auto-Submitted": "auto-generated",
        # Apart, for a filter that looks for "sent" in the first would find it in "consent".
        HEADER: _TOKEN.sub("", kind),
        **({TROUBLE: _TOKEN.sub("", trouble)} if trouble else {}),
        "MIME-Version": "1.0",
        "Content-Type": 'text/plain; charset="utf-8"',
        "Content-Transfer-Encoding": "7bit" if text.isascii() else "quoted-printable",
    }
    octets = text.encode()
    if not text.isascii():
        octets = binascii.b2a_qp(octets, istext=True)
    lines = [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + octets.replace(b"\n", b"\r\n")


def _unstructured(name: str, text: str) -> str:
    """Folded; as encoded words (RFC 2047) where it is not ASCII, or could be taken for such."""
    charset = "us-ascii" if text.isascii() and "=?" not in text else "utf-8"
    return Header(text, charset, header_name=name).encode(linesep="\r\n")
