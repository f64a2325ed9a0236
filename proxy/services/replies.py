"""Which POP3 reply an error becomes: text for people, response code for programs."""

from __future__ import annotations

from proxy.domain.errors import (
    BadDevice,
    BadLogin,
    DeviceNotNamed,
    LogInAgain,
    NoSuchMessage,
    NotFound,
    NotJudged,
    Permanent,
    ProxyError,
    StoreUnavailable,
    TooManyFailures,
    UnfitDeviceName,
)


def reply_to(error: ProxyError) -> tuple[str, str]:
    """Text and response code (RFC 2449 §8, RFC 3206 §4).

    What passes by itself says "wait": fetchmail knows no SYS/TEMP, takes any other refusal for a
    wrong password, and then stops to poll.
    """
    if isinstance(error, NoSuchMessage):
        return str(error), ""
    if isinstance(error, BadLogin):
        return "login refused: check user name and password", "AUTH"
    if isinstance(error, BadDevice):
        of_name = isinstance(error, DeviceNotNamed | UnfitDeviceName)
        return str(error), "AUTH" if of_name else "SYS/PERM"
    if isinstance(error, NotFound):
        return "the device has been removed, nothing was changed", ""
    if isinstance(error, LogInAgain):
        return f"{error}, wait and log in again", "SYS/TEMP"
    if isinstance(error, StoreUnavailable):
        return "the mail store is not available, wait a little and try again", "SYS/TEMP"
    if isinstance(error, TooManyFailures):
        wait = f"wait {error.retry_after:.0f} seconds"
        return f"too many failed logins from your address, {wait}", "SYS/TEMP"
    if isinstance(error, NotJudged):
        return "the login cannot be checked now, wait some minutes and try again", "SYS/TEMP"
    if isinstance(error, Permanent):
        return "the upstream server cannot be used; see the proxy's log", "SYS/PERM"
    return "the upstream server cannot be asked about the login, wait and try again", "SYS/TEMP"
