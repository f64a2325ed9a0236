"""What a person is told of devices: one is new, one is used twice, one has no name."""

from __future__ import annotations

from collections.abc import Sequence

from proxy.domain.model import DEFAULT_DEVICE, Account
from proxy.domain.peers import LOCAL
from proxy.domain.plain_text import one_line
from proxy.domain.trouble_texts import NAME, Telling, command, name_of, telling, when

SHOWN_LOGIN = 200
"""Characters of a user name that are repeated to who gave it: an answer is one line of 512 octets
(RFC 2449 §4)."""

EXAMPLE = "laptop"


def not_named(account: str, separator: str, *, by_login: bool) -> str:
    """The answer to a login that nothing gives the name of a device; `by_login`: the user name
    could."""
    if not by_login:
        return "this device is locked out until it has a name: ask who looks after the mail proxy"
    plain = account.isascii() and account == one_line(account, SHOWN_LOGIN)
    # fetchmail shows a person what has "lock" in it, and takes all else for a wrong password.
    return (
        "name this device to unlock the mailbox: log in as "
        f"{account if plain else 'YOUR-USER-NAME'}{separator}{EXAMPLE}"
    )


def new_device(
    account: Account, device: str, peer: str, *, at: float, count: int, most: int
) -> Telling:
    """`count` devices there are now, and `most` there may be."""
    name = name_of(account.name)
    place = "the proxy's own computer" if peer == LOCAL else one_line(peer, NAME)
    full = (
        f"The account has {count} devices now, as many as it may have: no other one is let in "
        "until one is removed."
    )
    return telling(
        f"New device {device} of {name}",
        f"A mail program has logged in to {name} as a device that was not known before. From now "
        "on it gets its own copy of all mail.",
        f"    device  {device}\n    when    {when(at)}\n    from    {place}",
        full if count >= most else "",
        "If you have just set it up, there is nothing to do.",
        "If its name is a slip, put right what stands behind your user name in that mail program. "
        "Then, or if you do not know the device, remove it, on the computer that runs the proxy:",
        command("device remove", account.name, device),
        "If you do not know it, somebody knows your password: change it at your mail provider "
        "first.",
    )


def shared_device(account: Account, devices: Sequence[str], separator: str) -> Telling:
    """`devices`: those that more than one program seems to use, or that nobody has named."""
    name, listed = name_of(account.name), ", ".join(devices)
    one = devices[0]
    new = "desktop" if EXAMPLE in devices else EXAMPLE
    unnamed = DEFAULT_DEVICE in devices
    how = (
        f'"{DEFAULT_DEVICE}" is what the proxy calls a mail program whose user name says nothing '
        "of a device. "
    )
    return telling(
        f"Two mail programs seem to share the device {listed} of {name}",
        f"Mail programs on several computers, or on one with a name and on one without, log in to "
        f"{name} as one device: {listed}. {how if unnamed else ''}What one of them deletes is gone "
        "for the other, and mail that one has fetched may never come to the other.",
        "Give each mail program a name of its own, behind its user name:",
        f"    {name}{separator}{EXAMPLE}\n    {name}{separator}desktop",
        "The program that is to keep what it has had so far is closed, its device renamed on the "
        "computer that runs the proxy, and only then the user name in it changed:",
        command("device rename", account.name, one, new),
        f"If nobody else is to use {one}, and the places are none of yours, change the password.",
    )
