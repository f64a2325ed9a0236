"""All syncs of the process: one at a time for an account, so many at once for a host, when due.

The faces ask for a sync and may wait for it; they never see an upstream session.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import replace
from typing import Any, TypeVar

from proxy.domain.directory import DeclaredAccount, Directory
from proxy.domain.errors import (
    ProxyError,
    StoreUnavailable,
    Temporary,
    UpstreamBusy,
    UpstreamRefusedLogin,
    UpstreamUnreachable,
)
from proxy.domain.facts import SyncFailed, SyncFinished, Unexpected
from proxy.domain.login_name import canonical
from proxy.domain.model import Account, Credentials
from proxy.domain.policy import AccountPolicy
from proxy.domain.providers import hides_retrieved
from proxy.domain.schedule import (
    LOGIN_RETRY,
    learnt_interval,
    login_retry_delay,
    next_interval,
    retry_delay,
)
from proxy.interfaces.observer import ID_OCTETS, Observer, work_id
from proxy.interfaces.store import Store
from proxy.interfaces.world import World
from proxy.services.account_login import AccountLogin
from proxy.services.kept_back import KeptBack
from proxy.services.room import Room
from proxy.services.same_mailbox import SameMailbox
from proxy.services.sync import AccountSync
from proxy.services.sync_run import AccountState, SyncRun
from proxy.services.timekeeper import Timekeeper
from proxy.services.upstream_memory import ServerMemory, UpstreamMemory
from proxy.services.upstream_places import UpstreamPlaces

FOLLOW_UP = 50
FOLLOW_UP_PAUSE = 2.0
"""A sync that has fetched so many messages is followed by another, so many seconds later: some
providers show only so many at a time, and a session does not see what arrives while it lasts."""

T = TypeVar("T")

RECONNECTS = 10
"""Times that one sync goes on in a new session after the connection broke behind new messages: some
servers close after so many."""
RECONNECT_PAUSE = 0.5
"""Seconds before the first of these; each waits longer."""

GUESS_TIME = 45.0
"""Seconds until a password is judged upstream, the time in line included; no mail program waits for
longer."""


class _Overtaken(Exception):
    """The account is synced with another password that is right, too."""


class Syncs:
    def __init__(
        self,
        world: World,
        store: Store,
        observer: Observer,
        directory: Directory,
        login: AccountLogin,
        room: Room,
        timekeeper: Timekeeper,
    ) -> None:
        self._room = room
        self._timekeeper = timekeeper
        self._kept = KeptBack()
        self._same_mailbox = SameMailbox(store, directory)
        self._login = login
        self._world = world
        self._store = store
        self._observer = observer
        self._directory = directory
        self._states: dict[str, AccountState] = defaultdict(AccountState)
        self._runs: dict[str, SyncRun] = {}
        """By the canonical name: two first logins may spell an account in two ways."""
        self._guesses: dict[tuple[str, bytes], SyncRun] = {}
        """Runs that are not proven, by canonical name and password."""
        self._servers: dict[tuple[str, int], ServerMemory] = defaultdict(ServerMemory)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._background: dict[str, tuple[DeclaredAccount, asyncio.Task[None]]] = {}
        self.places = UpstreamPlaces()
        self.began: Callable[[str, SyncRun], None] = lambda name, run: None
        """Told of every sync, and of which account."""

    # --- for the faces and the operator ---------------------------------------------------------

    def freshen(self, name: str, credentials: Credentials) -> SyncRun | None:
        """A sync if one is due by `max_age` and may be tried; the one under way if there is one."""
        run = self._runs.get(canonical(name))
        if run is not None:
            return run
        state = self._states.get(name)
        now = asyncio.get_running_loop().time()
        policy = self._directory.policy(name)
        if state is not None:
            wait = max(policy.sync.max_age, state.login_delay)
            fresh = state.synced_at is not None and now - state.synced_at < wait
            if fresh or state.holds_logins(now):
                return None
            if now < state.not_before and not self.places.may_try(policy.upstream.host):
                return None
        return self.start(name, credentials)

    def start(self, name: str, credentials: Credentials) -> SyncRun:
        """A sync now, or the one under way, whoever's credentials that uses."""
        run = self._runs.get(canonical(name))
        if run is None:
            run = self._runs[canonical(name)] = SyncRun(credentials, proven=True)
            run.task = self.spawn(self._perform(name, run))
            self.began(name, run)
        return run

    def asked(self, name: str, credentials: Credentials) -> SyncRun | None:
        """The run with these credentials, if there is one under way.

        Of passwords that nobody has vouched for, one is asked about once, however the name is
        spelled.
        """
        run = self._runs.get(canonical(name))
        return (
            run
            if run and run.credentials == credentials
            else self._guesses.get((canonical(name), credentials.password))
        )

    def ask(self, name: str, credentials: Credentials, *, known_place: bool) -> SyncRun:
        """Let upstream judge credentials that nobody has vouched for; if it takes them, sync.

        `known_place`: they come from where the account has been proved before.
        """
        run = SyncRun(credentials, proven=False)
        self._guesses[canonical(name), credentials.password] = run
        run.task = task = self.spawn(self._perform_guess(name, run, known_place))
        patience = asyncio.get_running_loop().call_later(GUESS_TIME, task.cancel)
        run.accepted.add_done_callback(lambda _: patience.cancel())
        self.began(name, run)
        return run

    async def wait_fresh(self, name: str, credentials: Credentials) -> SyncRun | None:
        """Sync if that is due, and wait as long as a login may wait.

        These credentials are known to be good. A run with others, which were good as well, is
        waited for, too, and then one with these is made if that is still due.
        """
        until = asyncio.get_running_loop().time() + self._login_wait(name)
        run = self.freshen(name, credentials)
        while run is not None:
            await self._wait(run, until)
            if run.credentials == credentials or not run.finished.done():
                break
            run = self.freshen(name, credentials)
        return run

    def try_again(self, name: str, credentials: Credentials) -> None:
        """A person has done something about it: no back-off, and no token of before."""
        self._login.forget(name)
        state = self._states[name]
        state.upstream_is_well()
        state.store_not_before = 0.0
        self.follow_directory()
        self.start(name, credentials)

    async def wait(self, run: SyncRun, name: str) -> None:
        """Wait for it as long as a login may; whatever comes of it, the stored mail is served."""
        await self._wait(run, asyncio.get_running_loop().time() + self._login_wait(name))

    async def _wait(self, run: SyncRun, until: float) -> None:
        left = until - asyncio.get_running_loop().time()
        await asyncio.wait([run.finished], timeout=max(left, 0.0))

    def _login_wait(self, name: str) -> float:
        return self._directory.policy(name).sync.login_wait

    async def break_off(self, name: str) -> None:
        """The sync under way, and guesses; messages that came down whole are kept."""
        guesses = [run for (account, _), run in self._guesses.items() if account == canonical(name)]
        for run in (*guesses, self._runs.get(canonical(name))):
            if run is not None and run.task is not None:
                run.task.cancel()
                await asyncio.wait([run.task])
                # One that had not yet begun knows nothing of its end.
                self._over(name, run)
                run.fail(UpstreamUnreachable("the sync was broken off"))

    def _over(self, name: str, run: SyncRun) -> None:
        if self._runs.get(canonical(name)) is run:
            del self._runs[canonical(name)]
        key = canonical(name), run.credentials.password
        if self._guesses.get(key) is run:
            del self._guesses[key]

    @contextmanager
    def none_of(self, *names: str) -> Iterator[None]:
        """Within this no sync of these accounts begins; who wants one waits.

        Raises:
            Temporary: one is under way.
        """
        keys = {canonical(name) for name in names}
        if keys & self._runs.keys():
            raise Temporary("a sync is under way; try again when it is done")
        placeholder = SyncRun(Credentials("", b""), proven=True)
        # As if it were in the mailbox already: guesses wait for it, too.
        placeholder.accepted.cancel()
        self._runs |= dict.fromkeys(keys, placeholder)
        try:
            yield
        finally:
            for key in keys:
                del self._runs[key]
            placeholder.fail(UpstreamBusy("the account was being changed"))

    def forget(self, name: str) -> None:
        """The account is gone, or another one."""
        self._states.pop(name, None)
        self._login.forget(name)
        self.spawn(self._kept.forget(name))

    def retry_in(self, name: str) -> float:
        """Seconds of back-off left."""
        state = self._states.get(name)
        now = asyncio.get_running_loop().time()
        return max(state.not_before - now, 0.0) if state else 0.0

    # --- in the background ----------------------------------------------------------------------

    def follow_directory(self) -> None:
        """Sync every declared account by its interval; call again when the directory changed."""
        declared = {account.name: account for account in self._directory.all_declared()}
        for name, (account, task) in list(self._background.items()):
            if declared.get(name) != account:
                task.cancel()
                del self._background[name]
        for name, account in declared.items():
            if name not in self._background:
                self._background[name] = account, self.spawn(self._repeat(account))

    async def stop(self) -> None:
        """Break off every sync; messages that came down whole are kept."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _repeat(self, account: DeclaredAccount) -> None:
        draw = self._world.entropy.uniform
        loop = asyncio.get_running_loop()
        # Accounts do not all start in the same instant.
        spread = draw(0.0, min(2.0, account.policy.sync.interval))
        await asyncio.sleep(max(spread, await self._login_delay_left(account.name)))
        while True:
            run = self.start(account.name, account.credentials)
            with suppress(ProxyError):
                await asyncio.shield(run.finished)
            state = self._states[account.name]
            pause = next_interval(account.policy.sync.interval, state.login_delay, draw(0.0, 1.0))
            await asyncio.sleep(max(pause, state.not_before - loop.time()))

    async def _login_delay_left(self, name: str) -> float:
        """Seconds until upstream takes a login again, by what an earlier life has learnt."""
        with suppress(ProxyError):
            account = await self._store.account(name)
            if account is not None and account.synced_at is not None:
                past = self._world.clock.now() - account.synced_at
                set_delay = self._directory.policy(name).upstream.login_interval
                return max(max(account.login_interval, set_delay) - max(past, 0.0), 0.0)
        return 0.0

    # --- one run --------------------------------------------------------------------------------

    async def _perform(self, name: str, run: SyncRun) -> None:
        work_id.set(self._world.entropy.token(ID_OCTETS).hex())
        policy = self._directory.policy(name)
        try:
            async with self.places.turn(policy):
                result = await self._sync(name, policy, run)
        except _Overtaken:
            run.fail(UpstreamBusy("another sync of the account is under way"))
        except ProxyError as error:
            await self._note_failure(name, run, error)
        except asyncio.CancelledError:
            run.fail(UpstreamUnreachable("the sync was broken off"))
            raise
        except Exception as error:
            self._observer.observe(Unexpected("sync", error))
            await self._note_failure(name, run, UpstreamUnreachable("internal error"))
        else:
            run.succeed(result)
        finally:
            self._over(name, run)
            # Whatever happened, nobody waits for it for ever.
            run.fail(UpstreamUnreachable("internal error"))

    async def _perform_guess(self, name: str, run: SyncRun, known_place: bool) -> None:
        """It stands behind a sync that is in the same mailbox: upstream lets in one session."""
        policy = self._directory.policy(name)
        try:
            while (other := self._runs.get(canonical(name))) and other.accepted.done():
                await asyncio.wait([other.finished])
            await self.places.guess(policy, run.accepted, known_place=known_place)
            if self.places.is_away(policy.upstream.host):
                raise UpstreamUnreachable("upstream could not be reached a moment ago")
            await self._perform(name, run)
        except ProxyError as error:
            run.fail(error)
        except asyncio.CancelledError:
            run.fail(UpstreamUnreachable("the sync was broken off"))
            raise
        finally:
            self._over(name, run)

    async def _sync(self, name: str, policy: AccountPolicy, run: SyncRun) -> SyncFinished:
        """One session, or as many as it takes while each brings something before it breaks."""
        # Kept once upstream has accepted the login: a name that is no account leaves no trace, and
        # who has not proved to be it changes nothing of what is known of an account.
        state = (self._states.get(name) if run.proven else None) or AccountState()
        before = 0
        for attempt in range(RECONNECTS + 1):
            try:
                result = await self._session(name, policy, run, state)
                break
            except UpstreamUnreachable:
                if not state.progress or state.login_delay or attempt == RECONNECTS:
                    raise
                before += state.progress
                await asyncio.sleep((attempt + 1) * RECONNECT_PAUSE)
        result = replace(result, fetched=result.fetched + before)
        self._observer.observe(result)
        state.synced_at = asyncio.get_running_loop().time()
        state.upstream_is_well()
        if result.fetched >= FOLLOW_UP and not state.login_delay:
            self.spawn(self._follow_up(name, policy, run.credentials))
        return result

    async def _follow_up(self, name: str, policy: AccountPolicy, credentials: Credentials) -> None:
        await asyncio.sleep(FOLLOW_UP_PAUSE)
        # A reload may have made it another account; its password goes nowhere else. Or it is gone.
        if name in self._states and self._directory.policy(name) == policy:
            self.start(name, credentials)

    async def _session(
        self, name: str, policy: AccountPolicy, run: SyncRun, state: AccountState
    ) -> SyncFinished:
        if not run.proven and self._directory.declared(name) is not None:
            raise UpstreamBusy("the account has just been declared")
        state.progress = 0
        server = policy.upstream
        state.set_delay = server.login_interval
        of_server = self._servers[server.host, server.port]
        memory = UpstreamMemory(of_server if run.proven else deepcopy(of_server), state.logins)
        try:
            session = await self._login.open(
                name, server, run.credentials, memory, listing=state.memory.mark is None
            )
        finally:
            run.shown |= memory.shown
            if run.shown:
                self.places.reached(server.host)
        state.logged_in_at = asyncio.get_running_loop().time()
        try:
            declared = self._directory.declared(name) is not None
            account = await self._store.ensure_account(
                name, declared=declared, at=self._timekeeper.best_now()
            )
            run.accept(account)
            if self._runs.setdefault(canonical(name), run) is not run:
                # Nothing is waited for with a session open: the other may need its place.
                raise _Overtaken
            self._states[account.name] = state
            state.learnt_delay = account.login_interval
            sync = AccountSync(
                session=session,
                store=self._store,
                clock=self._world.clock,
                timekeeper=self._timekeeper,
                observer=self._observer,
                account=account,
                retention=policy.retention,
                max_message_size=policy.sync.max_message_size,
                retr_hides=hides_retrieved(server.host),
                hide_returned=policy.smtp.returned_copies == "hide",
                memory=state.memory,
                room=self._room,
                kept=self._kept,
                same_mailbox=self._same_mailbox,
            )
            run.progress = lambda: (sync.progress, sync.to_fetch)
            try:
                result = await sync.run()
            finally:
                state.progress = sync.progress
                state.announced_delay = session.login_delay
        except BaseException:
            session.abort()
            raise
        return result

    async def _note_failure(self, name: str, run: SyncRun, error: ProxyError) -> None:
        if not run.proven:
            # The login that waits for it tells what became of it.
            run.fail(error)
            return
        account = await self._known_account(name)
        # A changed password is no reason to hold up those who know the new one.
        changed = isinstance(error, UpstreamRefusedLogin) and not self._directory.declared(name)
        delay = 0.0
        if account is not None and not changed:
            delay = await self._hold_back(account, run, error)
            with suppress(ProxyError):
                await self._store.note_sync(
                    account.id,
                    at=self._world.clock.now(),
                    failure=_said(error),
                    failure_kind=type(error).__name__,
                )
        self._observer.observe(
            SyncFailed(name if account else "", type(error).__name__, str(error), delay)
        )
        run.fail(error)

    async def _hold_back(self, account: Account, run: SyncRun, error: ProxyError) -> float:
        """Have the next tries wait; returns for how many seconds the background does so."""
        state = self._states[account.name]
        now = asyncio.get_running_loop().time()
        if isinstance(error, StoreUnavailable):
            # No fault of upstream's: the next sync is made when it would have been anyway.
            state.upstream_is_well()
            state.store_not_before = now + max(LOGIN_RETRY, state.until_login(now))
            return 0.0
        state.failures += 1
        if isinstance(error, UpstreamBusy) and error.too_often:
            await self._learn_delay(account, state, error)
        draw = self._world.entropy.uniform(0.0, 1.0)
        until_login = state.until_login(now)
        delay = max(retry_delay(error, state.failures, draw), until_login)
        soonest = max(login_retry_delay(error, delay, shown=run.shown), until_login)
        state.not_before, state.logins_not_before = now + delay, now + soonest
        if isinstance(error, UpstreamUnreachable) and not run.shown:
            self.places.could_not_reach(self._directory.policy(account.name).upstream.host, delay)
        return delay

    async def _learn_delay(
        self, account: Account, state: AccountState, error: UpstreamBusy
    ) -> None:
        """Upstream wants more time between logins than it was given."""
        now = asyncio.get_running_loop().time()
        since = None if state.logged_in_at is None else now - state.logged_in_at
        known = max(account.login_interval, state.announced_delay)
        learnt = learnt_interval(known, since, error.retry_after)
        error.retry_after = state.learnt_delay = learnt
        if learnt > account.login_interval:
            with suppress(ProxyError):
                await self._store.set_login_interval(account.id, learnt)

    async def _known_account(self, name: str) -> Account | None:
        try:
            account = await self._store.account(name)
            if account is None and self._directory.declared(name):
                account = await self._store.ensure_account(
                    name, declared=True, at=self._timekeeper.best_now()
                )
        except ProxyError:
            return None
        return account

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _said(error: ProxyError) -> str:
    """What `status` tells of it: whose fault it is, where it is not upstream's."""
    text = str(error) or type(error).__name__
    return f"the proxy's own store: {text}" if isinstance(error, StoreUnavailable) else text
