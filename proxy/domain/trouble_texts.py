"""What a person is told of a trouble, in plain words, with the command that helps.

Whatever strangers have a say in (names, refusals, UIDLs) goes through `one_line` first, and a name
in a command is quoted for the shell.
"""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from proxy.domain.directory import DeclaredAccount
from proxy.domain.facts import UidlsChanged
from proxy.domain.model import Account, Unfetched
from proxy.domain.plain_text import one_line
from proxy.domain.policy import UpstreamServer
from proxy.domain.survey import Space
from proxy.domain.timekeeping import JUMP, Timekeeping
from proxy.domain.trouble import mark

NAME, SAID, UID = 120, 300, 70
"""Characters shown of an account's name, of what a server said, and of a UIDL."""
SHOWN = 20
"""Messages listed."""
WIDTH = 72

PROGRAM = "pop3-sync-proxy"


@dataclass(frozen=True, slots=True)
class Telling:
    subject: str
    body: str
    """Paragraphs, each line ended by LF."""


def name_of(account: str) -> str:
    return one_line(account, NAME)


def password_refused(account: Account, declared: DeclaredAccount) -> Telling:
    name, server = name_of(account.name), declared.policy.upstream
    return telling(
        f"The mail provider refuses the password of {name}",
        f"The mail server {_host(server)} refuses the login that the proxy has for {name}. Until "
        "that is put right no new mail comes; the mail that is here already stays.",
        _said(account.failure),
        *_remedy(account.name, declared),
    )


def consent_needed(account: Account, declared: DeclaredAccount) -> Telling:
    name = name_of(account.name)
    by_token = bool(declared.policy.upstream.oauth_client_id)
    return telling(
        f"{name} needs your consent again" if by_token else f"{name} needs its password",
        f"The mail server {_host(declared.policy.upstream)} lets the proxy read the mail of {name} "
        f"only with {'your consent, which has ended' if by_token else 'a password'}. Until then no "
        "new mail comes; the mail that is here already stays.",
        _said(account.failure),
        *_remedy(account.name, declared),
    )


def no_sync(account: Account, server: UpstreamServer) -> Telling:
    name = name_of(account.name)
    since = f"since {when(account.synced_at)}" if account.synced_at else "at all so far"
    failed = f"get mail of {name} from {_host(server)}"
    if account.failure_kind == "StoreUnavailable":
        failed = f"keep new mail of {name} on its own disk"
    return telling(
        f"No new mail for {name} for a day",
        f"The proxy could not {failed} {since}. It goes on trying; "
        "the mail that is here already stays.",
        _said(account.failure),
        "If that lasts, on the computer that runs the proxy:",
        command("account sync", account.name),
        "It says what is wrong. Without the proxy your mail is where it always was, at the "
        "provider.",
    )


def too_large(account: Account, messages: Sequence[Unfetched], limit: int) -> Telling:
    name, count = name_of(account.name), len(messages)
    what = "A message is" if count == 1 else f"{count} messages are"
    listed = [f"    {size(one.octets)}  UIDL {one_line(mark(one), UID)}" for one in messages]
    more = [f"    and {count - SHOWN} more"] if count > SHOWN else []
    return telling(
        f"{what} too large to be fetched for {name}",
        f"{what} left at the mail provider of {name}, since the proxy is set to fetch none that "
        f"is larger than {size(limit)}:",
        "\n".join([*listed[:SHOWN], *more]),
        "Read it at the provider's web page; or let the proxy fetch it: raise max_message_size in "
        "its configuration, and then run, on the computer that runs it:",
        f"    systemctl reload {PROGRAM}\n{command('account sync', account.name)}",
        "Other mail is not held up.",
    )


def uidls_changed(account: Account, fact: UidlsChanged) -> Telling:
    name = name_of(account.name)
    return telling(
        f"The mail provider has renamed all mail of {name}",
        f"The mail provider has given {_messages(fact.recognised)} of {name} new internal names, "
        "as happens when it changes its software. A mail program without the proxy would now get "
        "all of that once more.",
        "The proxy has recognised what it knows: your devices get nothing twice. It had to fetch "
        f"{_messages(fact.fetched)} in that round.",
        "There is nothing to do.",
    )


def same_mailbox(account: Account, other: str, merge: tuple[str, str]) -> Telling:
    """`merge`: of the two, the one that may end, and the one that stays."""
    name, twin = name_of(account.name), name_of(other)
    return telling(
        f"{name} and {twin} seem to be one mailbox",
        f"The mail provider shows the same mail to {name} and to {twin}: most likely these are two "
        "names of one mailbox. What the proxy deleted there for one of them would be gone before "
        "the devices of the other have it. So nothing is deleted at the provider for either, until "
        "it is known what they are. Mail comes as ever.",
        "If they are one mailbox, make one account of the two, on the computer that runs the "
        "proxy. No device gets anything twice. (One that the configuration declares has to leave "
        "it first, if it is to end.)",
        command("account merge", *merge),
        "If they are two mailboxes with the same mail in them, say so:",
        command("account distinct", account.name, other),
    )


def store_low(space: Space) -> Telling:
    return telling(
        "The disk of the mail proxy is nearly full",
        f"{size(space.free)} of {size(space.size)} are free where the proxy keeps its mail "
        "(data_dir in its configuration).",
        f"It keeps {size(space.reserve)} of that free (reserve under [store]). Mail for which no "
        "more than that is left is not fetched and stays at the provider, and no mail can be sent. "
        "Devices read and delete what is stored as ever, and nothing of it gets lost.",
        "Make room on that disk, or let the proxy keep less: lower local_keep under [retention] "
        "and reload it. What it keeps of whom, this shows:",
        f"    {PROGRAM} status",
    )


def clock_jump(known: Timekeeping, now: float) -> Telling:
    why = {
        "jumped": "It has jumped while the proxy ran.",
        "behind": "When the proxy started, it was behind what the proxy knew last.",
        "ahead": "When the proxy started, it was more than 30 days ahead of what the proxy knew "
        "last.",
        "too_early": "When this program was made, that was long past.",
    }.get(known.doubt, "")
    best = known.best(known.last) if known.last else now
    right = f" The proxy takes it to be {when(best)}." if abs(best - now) > JUMP else ""
    return telling(
        "The clock of the mail proxy's computer is in doubt",
        f"The clock of the computer that runs the proxy says {when(now)}. {why}{right}",
        "Mail is fetched and read as ever. But until the clock has been steady for a day in which "
        "the proxy runs, nothing is deleted at the provider for its age or for having been "
        "delivered, nothing is let go of, and no device is taken for silent.",
        "Set the clock if it is wrong (a computer without a battery for it wants a server of "
        "time). If it is right, or once it is, say so, and things go on at once:",
        f"    {PROGRAM} clock ok",
    )


def orphans(count: int) -> Telling:
    return telling(
        f"The mail proxy has set aside {_messages(count)}",
        f"{_messages(count)} on the disk of the proxy belong to none of its accounts as far as its "
        "catalogue knows (catalogue.db in its data_dir). That is so if an older catalogue was put "
        "in place of a newer one, or, for a few messages, after a crash or a power cut.",
        "None was deleted: they lie in blobs/orphans in its data_dir. What the provider still has "
        "is fetched again by itself, and goes from there. The rest no device sees, until you take "
        "it in again:",
        f"    {PROGRAM} verify --adopt --account NAME",
        "What you do not want any more you may delete there.",
    )


def store_full(account: Account, space: Space) -> Telling:
    return telling(
        "The mail proxy has no room for new mail",
        f"Only {size(space.free)} are free on the disk of the proxy that keeps the mail of "
        f"{name_of(account.name)}, and {size(space.reserve)} of that are not for mail. What is "
        "here already stays and can be read, and new mail waits at the provider.",
        "Whoever looks after the proxy has to make room on its disk. Then it goes on by itself.",
    )


def account_full(account: Account) -> Telling:
    name = name_of(account.name)
    return telling(
        f"The mail proxy keeps no more mail for {name}",
        f"The proxy is set to keep so much mail of one account and no more, and {name} has reached "
        "that. What is here already stays, and new mail waits at the provider.",
        "Mail that is deleted at the provider, and that every device has, makes room after a "
        "while. Or let the proxy keep more: raise max_account_size under [store] in its "
        "configuration, and then run, on the computer that runs it:",
        f"    systemctl reload {PROGRAM}\n{command('account sync', account.name)}",
    )


def lost_mail(account: Account, uids: Sequence[str]) -> Telling:
    name, count = name_of(account.name), len(uids)
    what, them = ("1 message", "it") if count == 1 else (f"{count} messages", "them")
    listed = [f"    UIDL {one_line(uid, UID)}" for uid in uids]
    more = [f"    and {count - SHOWN} more"] if count > SHOWN else []
    return telling(
        f"The mail proxy has lost {what} of {name}",
        f"The disk of the proxy has {what} of {name} damaged, unreadable or not at all, and the "
        f"mail provider does not have {them} any more:",
        "\n".join([*listed[:SHOWN], *more]),
        f"Devices that have {them} keep {them}. The others are not shown {them}, and get all "
        "other mail.",
        "Look whether that disk fails. Then, on the computer that runs the proxy, this names the "
        "files that are lost:",
        f"    {PROGRAM} verify",
        "Copy them from a backup to where they were, and run it again: what is whole is shown to "
        "devices again.",
    )


GOES_BY_ITSELF = (
    "This message goes away by itself, from devices that have not got it yet, once\n"
    "all is well again.\n"
)
"""What a notice says beside."""


def when(at: float) -> str:
    time = datetime.fromtimestamp(at, UTC)
    return f"{time.day} {time:%B %Y, %H:%M} UTC"


def paragraphs(*parts: str) -> str:
    """Wrapped; what is indented stays as it is."""
    return "\n\n".join(
        part if part.startswith("    ") else textwrap.fill(part, WIDTH, break_long_words=False)
        for part in parts
        if part
    )


def telling(subject: str, *parts: str) -> Telling:
    return Telling(one_line(subject, 200), paragraphs(*parts) + "\n")


def _remedy(account: str, declared: DeclaredAccount) -> tuple[str, ...]:
    here = "On the computer that runs the proxy:"
    if declared.policy.upstream.oauth_client_id:
        return here, command("account authorize", account)
    if declared.password_stored:
        return here, command("account set-password", account)
    return (
        "Put the right password where the proxy's configuration takes it from ([[account]], "
        "password_file and so on). Then, on the computer that runs the proxy:",
        f"    systemctl reload {PROGRAM}\n{command('account sync', account)}",
    )


def command(what: str, account: str, *devices: str) -> str:
    """A command of ours about an account, or about a device of it, on a line of its own."""
    names = [shlex.quote(name_of(name)) for name in (account, *devices)]
    return " ".join([f"    {PROGRAM} {what}", *names])


def _said(text: str) -> str:
    said = one_line(text, SAID)
    return f"What went wrong: {said}" if said else ""


def _messages(count: int) -> str:
    return "1 message" if count == 1 else f"{count} messages"


def _host(server: UpstreamServer) -> str:
    return one_line(server.host, NAME)


def size(octets: int) -> str:
    return f"{octets / 1024**2:,.1f} MiB"
