"""What a client asks of MAIL and RCPT, as upstream can have it (RFC 1870, 3461, 4954, 6152 and
6531)."""

from __future__ import annotations

from collections.abc import Mapping

from proxy.interfaces.submission import Answer
from proxy.services.smtp_answers import (
    BAD_VALUE,
    NO_ADDRESS,
    NO_DSN,
    NO_UTF8,
    TOO_LARGE,
    UNKNOWN,
    UTF8_UNANNOUNCED,
)
from proxy.wire.smtp import SmtpSyntaxError, parse_path

Offers = Mapping[str, str]


class Refused(Exception):
    """Upstream need not be asked."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.text)
        self.answer = answer


def mail_command(argument: str, offers: Offers, max_octets: int) -> bytes:
    """The MAIL that upstream is given.

    Raises:
        Refused
    """
    address, given = _parsed(argument, "5.1.7")
    passed: list[str] = []
    for name, value in given.items():
        match name:
            case "SIZE":
                if not (value.isascii() and value.isdigit()):
                    raise Refused(BAD_VALUE)
                if int(value[:20]) > max_octets:
                    raise Refused(TOO_LARGE)
                passed += [f"SIZE={value}"] if "SIZE" in offers else []
            case "BODY":
                if value.upper() not in ("7BIT", "8BITMIME"):
                    raise Refused(BAD_VALUE)
                # Programs say so of any mail. Where upstream cannot have it, the content decides.
                passed += [f"BODY={value.upper()}"] if "8BITMIME" in offers else []
            case "SMTPUTF8":
                if value:
                    raise Refused(BAD_VALUE)
                if "SMTPUTF8" not in offers:
                    raise Refused(NO_UTF8)
                passed.append("SMTPUTF8")
            case "RET" | "ENVID":
                passed.append(_dsn(name, value, offers))
            case "AUTH":
                # Who has submitted it to us is nobody's business upstream: we log in ourselves.
                pass
            case _:
                raise Refused(UNKNOWN)
    if not address.isascii() and "SMTPUTF8" not in given:
        raise Refused(UTF8_UNANNOUNCED)
    return " ".join([f"MAIL FROM:<{address}>", *passed]).encode()


def rcpt_command(argument: str, offers: Offers) -> tuple[str, bytes]:
    """The address, and the RCPT that upstream is given.

    Raises:
        Refused
    """
    address, given = _parsed(argument, "5.1.3")
    if not address:
        raise Refused(NO_ADDRESS)
    passed: list[str] = []
    for name, value in given.items():
        if name not in ("NOTIFY", "ORCPT"):
            raise Refused(UNKNOWN)
        passed.append(_dsn(name, value, offers))
    if not address.isascii() and "SMTPUTF8" not in offers:
        raise Refused(NO_UTF8)
    return address, " ".join([f"RCPT TO:<{address}>", *passed]).encode()


def _dsn(name: str, value: str, offers: Offers) -> str:
    if not value:
        raise Refused(BAD_VALUE)
    if "DSN" not in offers:
        raise Refused(NO_DSN)
    return f"{name}={value}"


def _parsed(argument: str, status: str) -> tuple[str, dict[str, str]]:
    try:
        return parse_path(argument)
    except SmtpSyntaxError as error:
        raise Refused(Answer(501, f"{status} {error}")) from None
