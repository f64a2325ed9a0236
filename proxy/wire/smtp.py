"""Arguments of SMTP commands, read strictly: nothing that two servers could read in two ways goes
on (RFC 5321 §4.1.2; addresses may be UTF-8, RFC 6531)."""

from __future__ import annotations

import re

from proxy.wire.lines import CrlfNormaliser

_LOCAL = r'(?:[^\s"<>@,;:\\()\[\]\x00-\x20\x7f]+|"(?:[^"\\\x00-\x1f\x7f]|\\[\x20-\x7e])*")'
_DOMAIN = r"(?:[^\s\"<>@,;:\\()\[\]\x00-\x20\x7f]+|\[[0-9A-Za-z:.\-]+\])"
_PATH = re.compile(rf" ?<({_LOCAL}(?:@{_DOMAIN})?)?>((?: .*)?)")
_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([^\x00-\x20=\x7f]+))?")


class SmtpSyntaxError(Exception):
    """The argument is malformed."""


def parse_path(argument: str) -> tuple[str, dict[str, str]]:
    """The address and the parameters of MAIL FROM: or RCPT TO:, whose names are in upper case.

    A parameter without a value has "". The address of "<>" is "".

    Raises:
        SmtpSyntaxError
    """
    try:
        argument.encode()
    except UnicodeEncodeError:
        raise SmtpSyntaxError("not UTF-8") from None
    found = _PATH.fullmatch(argument)
    if found is None:
        raise SmtpSyntaxError("an address in <angle brackets> is expected")
    parameters: dict[str, str] = {}
    for word in found[2].split():
        parameter = _PARAMETER.fullmatch(word)
        if parameter is None or parameter[1].upper() in parameters:
            raise SmtpSyntaxError("malformed parameters")
        parameters[parameter[1].upper()] = parameter[2] or ""
    return found[1] or "", parameters


class LineEnds:
    """Makes every line end a CRLF, streaming, and notes what cannot be one.

    A bare LF is taken for the line end it was meant as. What a bare CR is meant as nobody knows,
    and a NUL may be dropped on the way, so that what stands around it becomes something else.
    """

    def __init__(self) -> None:
        self.harmful = False
        """Whether there was a bare CR or a NUL."""
        self.eight_bit = False
        self._normalise = CrlfNormaliser()
        self._held = b""

    def feed(self, data: bytes, *, last: bool = False) -> bytes:
        """At most one octet is held back before the `last` call."""
        seam = self._held + data
        self._held = b""
        if not last and seam.endswith(b"\r"):
            seam, self._held = seam[:-1], b"\r"
        pairs = seam.count(b"\r\n")
        self.harmful = self.harmful or seam.count(b"\r") > pairs or b"\0" in seam
        self.eight_bit = self.eight_bit or not seam.isascii()
        return self._normalise.feed(seam)
