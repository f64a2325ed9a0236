"""What logins and their sessions rest on, and their end when that is taken away.

A login makes its claim before anything is looked up for it, so that whatever is taken away from
then on is known to it, however long the login takes. Once its session is open, it is ended at once.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from proxy.domain.errors import BadLogin, LogInAgain

Loss = Literal["revoked", "changed"]
"""What was proved is no longer a right; or it is, and what the session sees is no longer so."""

PATIENCE = 10.0
"""Seconds in which ended sessions are over, but for those with a mail on its last way."""


@dataclass(frozen=True, slots=True)
class Right:
    account: str
    secret: bytes = field(default=b"", repr=False)
    """The fingerprint of the certificate, or what `Rights.secret` makes of the password."""
    device_id: int | None = None
    """None: not known yet, or one that nobody named."""


Match = Callable[[Right], bool]


class Holder(Protocol):
    """Who logs in: a session."""

    def proved(self) -> None:
        """It is clear who this is. The login may yet be refused, and may take its time."""

    def lose(self, loss: Loss) -> None:
        """The right that the session rests on has ended."""


class Claim:
    """One login and the session that comes of it."""

    def __init__(self, holder: Holder | None = None, rights: Rights | None = None) -> None:
        self.over = asyncio.Event()
        self.right: Right | None = None
        """None: nothing has been proved."""
        self._holder = holder
        self._rights = rights
        self._settled = False
        self._lost: list[tuple[Loss, Match]] = []
        """What has been taken away since the login began, from whomever."""

    def prove(self, right: Right) -> None:
        """Called as soon as the proof is accepted, whatever more there is to wait for.

        Raises:
            BadLogin, LogInAgain: the right has just ended.
        """
        self.right = right
        self._check(right)
        if self._holder is not None:
            self._holder.proved()

    def settle(self, device_id: int | None) -> None:
        """The login has come to its end: what is taken away from now on ends the session.

        Nothing may be awaited between this and the opening of the session.

        Raises:
            BadLogin, LogInAgain: as `prove`.
        """
        assert self.right is not None  # noqa: S101 - callers have called `prove`
        self.right = replace(self.right, device_id=device_id)
        self._check(self.right)
        self._settled = True
        self._lost.clear()

    def release(self) -> None:
        """The login has failed, or the session is over. Harmless when done before."""
        self.over.set()
        if self._rights is not None:
            self._rights.forget(self)

    def take_away(self, loss: Loss, match: Match) -> bool:
        """Whether this ends an open session."""
        if not self._settled:
            self._lost.append((loss, match))
            return False
        if self._holder is None or self.right is None or not match(self.right):
            return False
        self._holder.lose(loss)
        return True

    def _check(self, right: Right) -> None:
        for loss, match in self._lost:
            if match(right):
                if loss == "revoked":
                    raise BadLogin("its right has just ended")
                raise LogInAgain("the account or the device has just been changed")


class Rights:
    def __init__(self, key: bytes = b"") -> None:
        self._key = key
        self._claims: set[Claim] = set()
        self._barred: list[Match] = []

    def secret(self, password: bytes) -> bytes:
        """What stands for a password, so that no session keeps that itself."""
        return hmac.digest(self._key, password, "sha256")

    def claim(self, holder: Holder) -> Claim:
        """To be released in the end."""
        claim = Claim(holder, self)
        for match in self._barred:
            claim.take_away("revoked", match)
        self._claims.add(claim)
        return claim

    def forget(self, claim: Claim) -> None:
        self._claims.discard(claim)

    def end(self, loss: Loss, match: Match) -> list[Claim]:
        """End these rights, of sessions and of logins under way; returns those of sessions.

        To be called right after the change that ends them, nothing being awaited in between.
        """
        return [claim for claim in list(self._claims) if claim.take_away(loss, match)]

    @asynccontextmanager
    async def barred(self, match: Match) -> AsyncIterator[bool]:
        """Rights that end, and that nobody gets inside.

        Yields whether all their sessions are over.
        """
        self._barred.append(match)
        try:
            over = [asyncio.ensure_future(one.over.wait()) for one in self.end("revoked", match)]
            late: set[asyncio.Future[Literal[True]]] = set()
            if over:
                _, late = await asyncio.wait(over, timeout=PATIENCE)
            for one in late:
                one.cancel()
            yield not late
        finally:
            self._barred.remove(match)
