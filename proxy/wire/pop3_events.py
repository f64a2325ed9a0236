"""What the server machine tells its driver: one value for each command that needs a decision."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class PasswordLogin:
    """USER and PASS, or a finished AUTH PLAIN or LOGIN. Answer with `logged_in` or `err`."""

    username: str
    password: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ScramStart:
    """A SCRAM exchange has begun. Answer with `scram_challenge` or `err`."""

    username: str


@dataclass(frozen=True, slots=True)
class ScramLogin:
    """A SCRAM exchange is over. Answer with `logged_in` or `err`."""

    candidate: int | None
    """Which of the keys given to `scram_challenge` the client has proved to know; None: none."""


@dataclass(frozen=True, slots=True)
class CertificateLogin:
    """AUTH EXTERNAL (RFC 4422 appendix A): the client certificate says who it is. Answer with
    `logged_in` or `err`."""

    username: str
    """The login name asked for; "" leaves it to the certificate."""


@dataclass(frozen=True, slots=True)
class StartTls:
    """Answer with `start_tls`, send, upgrade, then call `tls_started`."""


@dataclass(frozen=True, slots=True)
class Stat:
    pass


@dataclass(frozen=True, slots=True)
class List:
    number: int | None


@dataclass(frozen=True, slots=True)
class Uidl:
    number: int | None


@dataclass(frozen=True, slots=True)
class Retr:
    number: int


@dataclass(frozen=True, slots=True)
class Top:
    number: int
    lines: int


@dataclass(frozen=True, slots=True)
class Dele:
    number: int


@dataclass(frozen=True, slots=True)
class Rset:
    pass


@dataclass(frozen=True, slots=True)
class Quit:
    """`update` tells whether there is a transaction to commit (RFC 1939 §6)."""

    update: bool


@dataclass(frozen=True, slots=True)
class TooManyErrors:
    """The peer does not speak POP3. Answer with `err` and hang up."""


@dataclass(frozen=True, slots=True)
class HttpBegun:
    """The peer speaks HTTP, and anybody may have chosen what stands behind. Answer with `err` and
    hang up."""


LoginEvent = PasswordLogin | ScramLogin | CertificateLogin
Event = (
    LoginEvent
    | ScramStart
    | StartTls
    | Stat
    | List
    | Uidl
    | Retr
    | Top
    | Dele
    | Rset
    | Quit
    | TooManyErrors
    | HttpBegun
)
