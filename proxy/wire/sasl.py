"""What SASL mechanisms share: names, passwords and base64 as they come on the wire."""

from __future__ import annotations

import base64
import binascii
from unicodedata import category


class SaslError(Exception):
    """The client's response is malformed; the text may be shown to it."""


def decode_name(data: bytes) -> str:
    """A user name as text: UTF-8 without control characters, its outer blanks dropped.

    Programs and people put blanks there, no-break spaces and tabs among them, and do not see them.

    Raises:
        SaslError: it is not.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise SaslError("user name is not UTF-8") from None
    name = text.strip()
    # What `strip` takes for a blank may be a line end.
    lines = any(category(each) in ("Cc", "Zl", "Zp") for each in text.replace("\t", ""))
    if not name or lines or not name.isprintable():
        raise SaslError("user name is empty or has control characters")
    return name


def check_password(data: bytes) -> bytes:
    """The password as it came. One with a line end in it could pass for a command upstream, and an
    empty one for a login without a password.

    Raises:
        SaslError: no password can be so.
    """
    if not data:
        raise SaslError("the password is empty")
    if any(octet in data for octet in b"\0\r\n"):
        raise SaslError("a password has no CR, LF or NUL")
    return data


def encode(data: bytes) -> bytes:
    """Base64 as it goes on the line."""
    return base64.b64encode(data)


def decode(line: bytes) -> bytes:
    """The octets of a base64 line.

    Raises:
        SaslError: not base64.
    """
    try:
        return base64.b64decode(line, validate=True)
    except binascii.Error:
        raise SaslError("not base64") from None


def initial(word: bytes | None) -> bytes | None:
    """The response that came with AUTH: "=" stands for one of no octets (RFC 4954 §4, RFC 5034 §4).

    Raises:
        SaslError: not base64.
    """
    return b"" if word == b"=" else None if word is None else decode(word)
