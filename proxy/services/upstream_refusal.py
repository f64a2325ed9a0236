"""What an upstream's -ERR means: by its response code, and where there is none, by its words."""

from __future__ import annotations

import re

from proxy.domain.errors import (
    ProxyError,
    UpstreamBusy,
    UpstreamRefusedLogin,
    UpstreamUnusable,
)
from proxy.domain.policy import HOUR, MINUTE
from proxy.wire.pop3 import Reply

# What servers without response codes say when trying later helps.
_BUSY = re.compile(r"lock|busy|in use|temporar|try again|too many|unavailable|later", re.I)

# Of those, what they say to a client that logs in too often. Wordings of Hotmail, QQ, 163, Yahoo,
# GMX and of older servers with a minimum between two sessions.
_TOO_OFTEN = re.compile(
    r"too (?:often|frequent|soon)|login[ -]delay|frequen|login limit|"
    r"(?:minimum|min\.?) (?:time|interval)|(?:once|only|wait) (?:every|per|in|for)\b.*\d",
    re.I,
)
_PERIOD = re.compile(r"(\d{1,5})[ -]*(s|sec|m|min|h)(?:onds?|utes?|ours?|s)?\b", re.I)
_UNITS = {"s": 1.0, "sec": 1.0, "m": MINUTE, "min": MINUTE, "h": HOUR}


def refusal(reply: Reply, *, otherwise: ProxyError) -> ProxyError:
    """The error that a -ERR stands for (RFC 2449 §8.1, RFC 3206 §4); `otherwise` where neither code
    nor words tell."""
    if reply.code == "AUTH":
        return UpstreamRefusedLogin(reply.text)
    if reply.code == "LOGIN-DELAY" or (not reply.code and _TOO_OFTEN.search(reply.text)):
        return UpstreamBusy(reply.text, too_often=True, retry_after=_period(reply.text))
    if reply.code in ("IN-USE", "SYS/TEMP"):
        return UpstreamBusy(reply.text)
    if reply.code.startswith("SYS/"):
        return UpstreamUnusable(reply.text)
    if _BUSY.search(reply.text):
        return UpstreamBusy(reply.text)
    return otherwise


def _period(text: str) -> float | None:
    """The time a refusal names: "minimum 15 minutes between logins"."""
    found = _PERIOD.search(text)
    return min(int(found[1]) * _UNITS[found[2].lower()], 24 * HOUR) if found else None
