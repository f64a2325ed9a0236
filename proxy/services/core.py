"""The services over a world and a store: production and simulation build the same."""

from __future__ import annotations

from dataclasses import replace

from proxy import __version__
from proxy.domain.directory import Directory
from proxy.domain.policy import LimitsPolicy, SessionPolicy, StorePolicy, SubmissionLimits
from proxy.domain.survey import Load
from proxy.interfaces.observer import ID_OCTETS, Observer
from proxy.interfaces.password_sources import PasswordSources
from proxy.interfaces.store import Store
from proxy.interfaces.submission import SmtpDialer
from proxy.interfaces.world import World
from proxy.services.account_login import AccountLogin
from proxy.services.account_passwords import AccountPasswords
from proxy.services.admin import Admin
from proxy.services.enrolment import Enrolment
from proxy.services.face import Face
from proxy.services.gate import Gate
from proxy.services.janitor import Janitor
from proxy.services.logins import Logins
from proxy.services.maildrops import Maildrops
from proxy.services.newcomers import Newcomers
from proxy.services.pop3_session import Pop3Session
from proxy.services.rights import Right, Rights
from proxy.services.room import Room
from proxy.services.sessions import Sessions
from proxy.services.smtp_session import SmtpSession
from proxy.services.submissions import Submissions
from proxy.services.survey import Surveyor
from proxy.services.syncs import Syncs
from proxy.services.timekeeper import Timekeeper
from proxy.services.tokens import KeptSecrets

IMPLEMENTATION = f"pop3-sync-proxy/{__version__}"


class Core:
    """They have no socket of their own: `session` is for who listens."""

    def __init__(
        self,
        world: World,
        store: Store,
        observer: Observer,
        directory: Directory,
        policy: SessionPolicy,
        limits: LimitsPolicy,
        *,
        submission: SubmissionLimits | None = None,
        dialer: SmtpDialer | None = None,
        label_key: bytes | None = None,
        room: Room | None = None,
        notices: bool = False,
        sources: PasswordSources | None = None,
    ) -> None:
        """Without a `dialer` no mail is sent; without `room` there is no end of that. For
        `label_key` see `metrics_label`, for `sources` `AccountPasswords`. `notices`: devices are
        told of new ones."""
        self._room = room or Room(lambda: None, StorePolicy())
        self._store = store
        self._directory = directory
        kept = KeptSecrets(store, world.vault)
        self.passwords = AccountPasswords(directory, kept, sources)
        login = AccountLogin(world, observer, directory, kept, self.passwords)
        self.timekeeper = Timekeeper(store, world.clock, observer)
        self.syncs = Syncs(world, store, observer, directory, login, self._room, self.timekeeper)
        self.maildrops = maildrops = Maildrops(store, world.clock, observer)
        self.rights = Rights(world.entropy.token(32))
        self._gate = Gate(limits, world.entropy.token(32))
        self._newcomers = Newcomers(limits)
        self._enrolment = Enrolment(
            world,
            store,
            observer,
            directory,
            self._newcomers,
            self.timekeeper,
            notices=notices,
        )
        self.logins = Logins(
            world,
            store,
            observer,
            directory,
            self.syncs,
            maildrops,
            self._gate,
            self._newcomers,
            self._enrolment,
            self.rights,
            self.timekeeper,
        )
        self.submissions = Submissions(
            world,
            store,
            observer,
            directory,
            self.logins,
            login,
            dialer,
            submission or SubmissionLimits(),
            self._room,
        )
        self.janitor = Janitor(store, world.clock, observer, directory, maildrops, self.timekeeper)
        self.admin = Admin(
            store,
            world,
            directory,
            self.syncs,
            self.logins.scram_secrets,
            kept,
            self.janitor,
            maildrops,
            self.submissions,
            self._newcomers,
            self.rights,
            self.timekeeper,
            label_key=label_key,
        )
        self.surveyor = Surveyor(store, observer, directory)
        self.sessions: Sessions[Pop3Session] = Sessions(limits)
        self.smtp_sessions: Sessions[SmtpSession] = Sessions(limits)
        self._face = Face(
            self.logins,
            world.network,
            observer,
            policy,
            limits,
            IMPLEMENTATION,
            lambda: world.entropy.token(ID_OCTETS).hex(),
            self.rights,
        )

    def take_over(self, new: Directory) -> None:
        """Follow what a reload says of accounts, and end sessions of those it says otherwise of."""
        now, before = self._directory, self._directory.copy()
        now.replace(new)

        def revoked(right: Right) -> bool:
            password = before.password(right.account)
            is_another = password != now.password(right.account)
            return not now.uses(right.account) or (
                is_another and right.secret == self.rights.secret(password)
            )

        def changed(right: Right) -> bool:
            return before.standing(right.account) != now.standing(right.account)

        self.rights.end("revoked", revoked)
        self.rights.end("changed", changed)

    async def respell(self, directory: Directory) -> None:
        """Declared accounts that the store knows go on under the name that they have there.

        Raises:
            StoreUnavailable
        """
        spellings = {}
        for account in directory.all_declared():
            known = await self._store.account(account.name)
            if known is not None and known.name != account.name:
                spellings[account.name] = known.name
        directory.respell(spellings)

    def follow(
        self,
        policy: SessionPolicy,
        limits: LimitsPolicy,
        submission: SubmissionLimits,
        store: StorePolicy,
        *,
        notices: bool,
    ) -> None:
        """For sessions to come; open ones go on under what held when they began."""
        self._face = replace(self._face, policy=policy, limits=limits)
        self.sessions.limits = self.smtp_sessions.limits = limits
        self.submissions.limits = submission
        self._gate.follow(limits)
        self._room.follow(store)
        self._newcomers.follow(limits)
        self._enrolment.notices = notices

    def load(self) -> Load:
        return Load(
            sessions_logged_in=len(self.sessions) - self.sessions.strangers,
            sessions_strangers=self.sessions.strangers,
            upstream_sessions=self.syncs.places.open,
            syncs_waiting=self.syncs.places.waiting,
            commits_waiting=self._store.commits_waiting,
        )

    def session(self, *, tls: bool) -> Pop3Session:
        """A protocol for one accepted connection."""
        return Pop3Session(self._face, self.sessions, tls=tls)

    def smtp_session(self, *, tls: bool) -> SmtpSession:
        """Likewise, for a client that hands in mail."""
        return SmtpSession(self._face, self.smtp_sessions, self.submissions, tls=tls)
