"""What the proxy itself says to a client that hands in mail, where it is not upstream's to say."""

from __future__ import annotations

from proxy.domain.errors import (
    ConsentNeeded,
    Permanent,
    ProxyError,
    StoreUnavailable,
    UpstreamBusy,
    UpstreamRefusedLogin,
)
from proxy.interfaces.submission import Answer

BAD_SEQUENCE = Answer(503, "5.5.1 not now")
NO_RECIPIENT = Answer(554, "5.5.1 no recipient was accepted")
TOO_MANY_RECIPIENTS = Answer(
    452, "4.5.3 too many recipients, send the mail to the others once more"
)

# --- of the parameters of MAIL and RCPT -----------------------------------------------------------

BAD_VALUE = Answer(501, "5.5.4 a parameter has a value that makes no sense")
NO_ADDRESS = Answer(501, "5.1.3 a recipient has an address")
UNKNOWN = Answer(555, "5.5.4 a parameter is not known here")
NO_DSN = Answer(555, "5.5.4 the SMTP server offers no delivery status notifications (DSN)")
NO_UTF8 = Answer(553, "5.6.7 the SMTP server takes no addresses beyond ASCII (SMTPUTF8)")
UTF8_UNANNOUNCED = Answer(553, "5.6.7 an address beyond ASCII needs SMTPUTF8 behind MAIL FROM")

# --- of the content -------------------------------------------------------------------------------

TOO_LARGE = Answer(552, "5.3.4 the mail is larger than is taken here")
HEADER_TOO_LARGE = Answer(552, "5.3.4 the mail's header is larger than 256 KiB")
HARMFUL = Answer(554, "5.6.0 the mail holds a CR without LF, or a NUL, which mail must not")
CONVERSION = Answer(554, "5.6.3 the SMTP server takes no 8-bit mail")
NO_ROOM = Answer(452, "4.3.1 the mail cannot be stored now, try again later")

# --- of upstream ----------------------------------------------------------------------------------

_TWICE = "it may have taken the mail, so that sending it again may send it twice"

LOST = Answer(451, "4.4.2 the connection to the SMTP server was lost; the mail was not sent")
UNSURE = Answer(
    451, f"4.4.2 the connection to the SMTP server was lost before it answered: {_TWICE}"
)
GARBLED = Answer(451, "4.5.0 the SMTP server gave an answer that makes no sense")
GARBLED_END = Answer(451, f"{GARBLED.text}: {_TWICE}")


def unavailable(error: ProxyError) -> Answer:
    """Why upstream cannot be asked now."""
    if isinstance(error, UpstreamRefusedLogin):
        return Answer(554, f"5.7.8 the SMTP server does not let this account in: {error}")
    if isinstance(error, ConsentNeeded):
        return Answer(554, "5.7.8 the account needs a person: see the proxy's log")
    if isinstance(error, Permanent):
        return Answer(554, f"5.3.5 the SMTP server cannot be used: {error}")
    if isinstance(error, StoreUnavailable):
        return Answer(451, "4.3.0 the mail store is not available, try again later")
    if isinstance(error, UpstreamBusy):
        return Answer(451, f"4.7.0 the SMTP server is busy, try again later: {error}")
    return Answer(451, f"4.4.1 the SMTP server does not answer, try again later: {error}")
