"""What can go wrong, sorted by who has to act.

Errors carry data; `services.replies` alone turns one into a POP3 reply, the observers alone
turn one into a log level or a metric label.
"""

from __future__ import annotations


class ProxyError(Exception):
    """Root of every error this program raises on purpose."""


class InternalError(ProxyError):
    """Something nobody planned for, in the running proxy; its log has it."""


# --- Temporary: worth trying again later -------------------------------------------------------


class Temporary(ProxyError):
    """Nobody did wrong; the same request may succeed later."""


class UpstreamUnreachable(Temporary):
    """No connection, a broken one, a time-out, or an answer that is not POP3."""


class UpstreamSilent(UpstreamUnreachable):
    """Nothing came in time."""


class UpstreamGarbled(UpstreamUnreachable):
    """Octets where an answer belongs. What came right before them cannot be trusted either."""


class UpstreamBusy(Temporary):
    """Upstream said "not now": [IN-USE], [LOGIN-DELAY] or [SYS/TEMP] (RFC 2449 §8, RFC 3206)."""

    def __init__(
        self, text: str, retry_after: float | None = None, *, too_often: bool = False
    ) -> None:
        super().__init__(text)
        self.retry_after = retry_after
        """Seconds upstream asked us to wait, where it said so."""
        self.too_often = too_often
        """We log in more often than it allows."""


class TooManyFailures(Temporary):
    """Too many failed logins from this address: it has to wait."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"too many failed logins from this address, wait {retry_after:.0f} s")
        self.retry_after = retry_after
        """Seconds."""


class NotJudged(Temporary):
    """Nobody can judge the login now. The one thing that somebody is told who has proved nothing,
    whatever the cause, so that it tells nothing of the account."""


class TooManyRefusals(Temporary):
    """Upstream has refused so many logins of late that it is not to be asked again now."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(
            f"upstream refused too many logins, it is asked again in {retry_after:.0f} s"
        )
        self.retry_after = retry_after
        """Seconds."""


class TooManyAccounts(Temporary):
    """From one place so many accounts were made of late that it makes no more for now."""


class StoreUnavailable(Temporary):
    """The catalogue or the blobs cannot be read or written (disk full, I/O error)."""


class LogInAgain(Temporary):
    """What a login under way was to see has been changed meanwhile."""


class MailNotSent(ProxyError):
    """The SMTP server for alerts cannot be reached, or does not take the mail."""


# --- Permanent: a person has to act ------------------------------------------------------------


class Permanent(ProxyError):
    """Trying again changes nothing until a person acts."""


class UpstreamRefusedLogin(Permanent):
    """Upstream does not take this user name and password."""


class UpstreamUnusable(Permanent):
    """Upstream lacks what was asked for (TLS, a login mechanism) or says [SYS/PERM]."""


class ConsentNeeded(Permanent):
    """A person has to give what upstream wants: consent to an OAuth 2.0 client, or a password."""


class PasswordUnavailable(Permanent):
    """An account's password is not to be had from where the configuration says that it is."""


class VaultLocked(Permanent):
    """The key that encrypts kept passwords and tokens is missing, or is another one."""


class StoreTooNew(Permanent):
    """The store was written by a newer version of this program."""


class WrongCatalogue(Permanent):
    """The catalogue is not the one that the store had last: messages beside it would be strangers
    to it."""


class DataDirInUse(Permanent):
    """Another proxy runs on this data directory."""


class BadConfig(Permanent):
    """The configuration cannot be used; every problem found is listed."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


# --- Refusal: the asking side is wrong ---------------------------------------------------------


class Refusal(ProxyError):
    """The device or the operator asked for something that is not to be had."""


class BadLogin(Refusal):
    """Unknown account, wrong password, or a device that may not log in."""


class KnownWrong(BadLogin):
    """A password that upstream has refused a short while ago."""


class BadDevice(Refusal):
    """Who logs in has proved to be the account, but not as a device that may come. The text is for
    that person, on one line."""


class UnfitDeviceName(BadDevice):
    """What the login name says of the device can name none."""


class DeviceNotNamed(BadDevice):
    """Nothing names the device, and it has to have a name."""


class TooManyDevices(BadDevice):
    """The account has as many devices as it may have."""


class NoSuchMessage(Refusal):
    """A message number outside the view, or one marked as deleted (RFC 1939 §5)."""


class NotFound(Refusal):
    """An operator named an account, a device or a message that does not exist."""


class AlreadyExists(Refusal):
    """An operator asked for a name that is taken."""


class BadRequest(Refusal):
    """An operator's request is malformed."""
