"""What the SMTP machine tells its driver: one value for each thing that needs a decision."""

from __future__ import annotations

from dataclasses import dataclass, field

from proxy.wire.pop3_events import HttpBegun, LoginEvent, ScramStart, StartTls, TooManyErrors


@dataclass(frozen=True, slots=True)
class Hello:
    """EHLO or HELO. Forget the mail under way, and answer with `hello`."""


@dataclass(frozen=True, slots=True)
class Mail:
    argument: str
    """What follows "MAIL FROM:"; octets that are not UTF-8 are surrogates."""


@dataclass(frozen=True, slots=True)
class Rcpt:
    argument: str
    """What follows "RCPT TO:", likewise."""


@dataclass(frozen=True, slots=True)
class Data:
    """Answer with `start_content`, or with `reply`."""


@dataclass(frozen=True, slots=True)
class Content:
    """A part of a mail, its dots unstuffed. Answer the last one with `reply`, others with
    `take_more`."""

    data: bytes = field(repr=False)
    last: bool


@dataclass(frozen=True, slots=True)
class Reset:
    """Forget the mail under way."""


@dataclass(frozen=True, slots=True)
class Quit:
    """Answer and hang up."""


Event = (
    Hello
    | StartTls
    | LoginEvent
    | ScramStart
    | Mail
    | Rcpt
    | Data
    | Content
    | Reset
    | Quit
    | TooManyErrors
    | HttpBegun
)
