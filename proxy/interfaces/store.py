"""The only meeting point of the two faces: the catalogue and the blobs.

Each verb is one transaction, whole or not at all, under the store's own lock; none is held across
a network wait. Times are Unix times handed in as `at`. A verb returns after its effect is on disk,
so what it made visible survives `kill -9`. Every verb may raise `StoreUnavailable`, and then has
changed nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from proxy.domain.doubt import Spell
from proxy.domain.merge import Merging
from proxy.domain.model import (
    Account,
    AccountSize,
    Blob,
    Delivery,
    Device,
    Fetched,
    Holding,
    Imported,
    KnownMessage,
    Message,
    MessageRecord,
    Sending,
    Sighting,
    Unfetched,
    Upstream,
)
from proxy.domain.policy import RetentionPolicy, ViewKind
from proxy.domain.same_mailbox import Alike
from proxy.domain.timekeeping import LONGEST, Reading, Timekeeping
from proxy.domain.trouble import ReportKind, Trouble, TroubleKind

IN_MEMORY = 256 * 1024
"""Octets of one message that a writer holds in memory at most, before they go to a file."""


class BlobWriter(Protocol):
    """Takes the octets of one message; nothing is durable before `Store.add_messages`."""

    async def write(self, data: bytes) -> None:
        """Append. Small messages stay in memory, large ones go to a temporary file."""

    async def finish(self) -> Blob:
        """All octets are in."""

    async def abort(self) -> None:
        """Forget what was written. Harmless after `finish` and `Store.add_messages`; where that
        has failed, this or `renew` has to follow."""

    async def renew(self) -> bool:
        """After `Store.add_messages` has failed: have the octets ready to be added again.

        False: they are not all there any more.

        Raises:
            StoreUnavailable: not now.
        """


class BlobReader(Protocol):
    """An open blob. Reading is from the page cache as a rule, so it does not await."""

    def read(self, octets: int) -> bytes:
        """The next at most `octets` octets, b"" at the end.

        The last ones are given only if all are what was stored.

        Raises:
            StoreUnavailable: they are not, or cannot be read.
        """

    def close(self) -> None: ...


class Time(Protocol):
    """Running time, and what is known of the wall clock; see `domain.timekeeping`.

    The store stamps with running time by itself whatever decides later on a step that cannot be
    undone.
    """

    @property
    def ran(self) -> float:
        """Seconds that the proxy has run, in all its lives. In memory, no I/O.

        A crash may take some minutes off it, but never to before a stamp; nothing ever adds to it
        but time in which the proxy ran.
        """

    def start_running(self, awake: Callable[[], float], *, longest: float = LONGEST) -> None:
        """From now on the proxy runs: `ran` grows by this clock, each time that it is looked at by
        at most `longest`. Commands on the store of a stopped proxy do without."""

    @property
    def timekeeping(self) -> Timekeeping:
        """What `keep_time` was given last. In memory, no I/O."""

    async def keep_time(self, kept: Timekeeping) -> None:
        """Holds in memory even where it cannot be made durable."""

    async def correct_stamps(self, *, wrong_since: float | None, right: Reading) -> None:
        """The wall clock was right then, and not before.

        Unix times that were stamped after this running time are computed anew from running time,
        and so are, or else become that of now, those that lie in the future.
        """


class Accounts(Protocol):
    async def accounts(self) -> list[Account]:
        """All of them, by name."""

    async def account(self, name: str) -> Account | None:
        """The one of exactly this name, or else of one with the same canonical form.

        Accounts that were merged into another one are that one. Where earlier versions have left
        two spellings as two accounts, any third one means the declared of them, or the older.
        """

    async def ensure_account(self, name: str, *, declared: bool, at: float) -> Account:
        """As `account`, made in this spelling if it is new; `declared` is kept up to date."""

    async def remove_account(self, account_id: int) -> None:
        """Forget the account, its devices and its messages.

        No session and no sync of it may be open.
        """

    async def erase_traces(self) -> bool:
        """Of what was removed, also from what the disk keeps of former changes.

        False: somebody else, such as a backup, reads it; then it stays until the next writes.
        """

    async def copies_with(self, account: str) -> list[str]:
        """The copies of the catalogue, made before upgrades, that this account is in: their paths,
        with those that cannot be read."""

    async def set_verifier(self, account_id: int, verifier: str | None) -> None: ...

    async def note_sync(
        self,
        account_id: int,
        *,
        at: float,
        upstream_count: int | None = None,
        unfetched: Sequence[Unfetched] | None = None,
        failure: str = "",
        failure_kind: str = "",
    ) -> None:
        """Remember how a sync ended; an empty `failure` means it succeeded. None: as before.

        `failure_kind` is the name of the error's class.
        """

    async def set_login_interval(self, account_id: int, seconds: float) -> None: ...


class Merges(Protocol):
    """Two accounts that stand for one mailbox; see `domain.merge`."""

    async def look_at_merge(self, source_id: int, target_id: int) -> Merging:
        """What `merge_accounts` would do; nothing changes."""

    async def merge_accounts(self, source_id: int, target_id: int, *, at: float) -> Merging:
        """The source becomes part of the target, and its name another name of that.

        No session and no sync of either may be open. Each device goes on seeing what it saw, under
        the UIDLs that it knows, and nothing that it had; see `Views.uids_of`.
        """


class SameMailboxes(Protocol):
    """Accounts that seem to be two names of one mailbox; see `domain.same_mailbox`."""

    async def alike(self, account_id: int) -> list[Alike]:
        """Accounts that have some of the newest messages which upstream now lists for this one.

        Those of which that was noted, or that were told apart, are left out.
        """

    async def note_same_mailbox(self, account_id: int, other_id: int) -> None:
        """They seem to be one, unless they were told apart before; noting it twice is harmless."""

    async def tell_apart(self, account_id: int, other_id: int) -> None:
        """An operator says that they are two mailboxes; that holds for good."""

    async def same_mailboxes(self) -> list[tuple[int, int]]:
        """Ids of accounts that seem to be one and were not told apart, the smaller id first."""

    async def may_share_mailbox(self, account_id: int) -> bool:
        """Whether this account is in `same_mailboxes`."""


class Devices(Protocol):
    async def devices(self, account_id: int) -> list[Device]:
        """By name."""

    async def device(self, account_id: int, name: str) -> Device | None:
        """Names are compared without case."""

    async def device_by_app_password(self, account_id: int, password_hash: bytes) -> Device | None:
        """The device whose app password has this SHA-256."""

    async def add_device(
        self,
        account_id: int,
        name: str,
        *,
        since: float | None,
        view: ViewKind | None = None,
        app_password_hash: bytes | None = None,
        scram_keys: bytes | None = None,
        at_most: int | None = None,
        notice: Blob | None = None,
        at: float,
    ) -> Device:
        """Make a device; for `scram_keys` see `Device`.

        `notice`, a finished blob, is shown to the devices that the account has already, and to
        none that it gets later.

        Raises:
            AlreadyExists: the account has one of this name.
            TooManyDevices: the account has `at_most` already.
        """

    async def device_by_certificate(self, certificate: bytes) -> tuple[Account, Device] | None:
        """The device that may log in with the certificate of this SHA-256, and its account."""

    async def set_certificate(self, device_id: int, certificate: bytes | None) -> None:
        """The device may log in with the certificate of this SHA-256, and with no other."""

    async def rename_device(self, device_id: int, name: str) -> None:
        """Raises:
        AlreadyExists: the account has one of this name.
        """

    async def remove_device(self, device_id: int) -> None:
        """Forget the device and its deliveries."""

    async def reset_device(self, device_id: int) -> None:
        """Forget its deliveries, its imported UIDLs and its `since`: the next view shows all mail
        in the store."""

    async def note_seen(self, device_id: int, *, at: float) -> None: ...


class Views(Protocol):
    def version(self, account_id: int) -> int:
        """Grows whenever what an account's devices may see has changed, marks of sessions apart.

        In memory, no I/O: what a cache of views is checked against.
        """

    def device_version(self, device_id: int) -> int:
        """Grows whenever `hidden` of this device may have changed by its own doing."""

    async def messages(self, account_id: int) -> tuple[Message, ...]:
        """What views are cut from, oldest first: not purged, not deleted everywhere."""

    async def hidden(self, device_id: int, view: ViewKind) -> frozenset[int]:
        """Ids of messages that this device does not see: deleted, before its `since`, lost and
        not had before, and for the view "undelivered" those it has retrieved."""

    async def uids_of(self, device_id: int) -> Mapping[int, str]:
        """What this device calls messages that it does not know by `Message.uid`, by their ids."""

    async def removed_upstream(self, account_id: int) -> frozenset[int]:
        """Ids of messages that left the upstream by somebody else's doing, and not by our RETR."""

    def open_blob(
        self,
        message: Message,
        *,
        device: int | None = None,
        on_lost: Callable[[], None] = lambda: None,
    ) -> BlobReader:
        """For this device. `on_lost` is called when this or the reader finds the blob lost: it is
        missing, unreadable, or not what was stored. The message is then fetched again at the next
        sync while upstream has it.

        Raises:
            StoreUnavailable: it is lost, or cannot be read now.
        """

    async def commit_session(
        self,
        device_id: int,
        *,
        retrieved: Collection[int],
        deleted: Collection[int],
        everywhere: bool,
        at: float,
    ) -> None:
        """Make a session's marks durable: the commit of QUIT (RFC 1939 §6).

        Commits of many sessions share a transaction. Committing twice is harmless. With
        `everywhere`, `deleted` messages are hidden from all devices and due upstream.

        Raises:
            NotFound: the device has been removed; nothing was committed.
        """

    async def note_cut_off(
        self, device_id: int, *, sent: Collection[int], broken: Collection[int]
    ) -> None:
        """A session of this device has ended without a commit: these messages were sent whole and
        are unconfirmed from now on, and these were asked for and not sent whole."""

    async def unconfirmed(self, device_id: int) -> Collection[int]:
        """Ids of messages that have been sent whole to this device in sessions without a commit,
        the last time that it asked for them, and of which nothing was committed since."""

    @property
    def commits_waiting(self) -> int:
        """Sessions whose marks are on their way to the disk. In memory, no I/O."""


class Syncing(Protocol):
    async def known(self, account_id: int) -> list[KnownMessage]:
        """All messages ever fetched, purged ones too, in order of arrival."""

    def new_blob(self) -> BlobWriter: ...

    async def add_messages(self, account_id: int, fetched: Sequence[Fetched], *, at: float) -> None:
        """Make blobs durable, then make the messages visible, all of them or none.

        The UIDL devices see is upstream's own unless that is invalid or was ever used in this
        account; then one is minted from the digest.
        """

    async def note_listing(
        self,
        account_id: int,
        *,
        gone: Collection[int],
        seen: Collection[Sighting],
        at: float,
        by_retr: bool = False,
        at_once: float | None = None,
    ) -> None:
        """Apply what a listing told: messages that left, perhaps by our own RETR, and messages
        found under another name, size or state.

        `at_once` is the running time, where those that left may come back under other UIDLs.
        What left after `note_deleting` was deleted by us, and by nobody else.
        """

    async def note_keeps_retrieved(self, account_id: int) -> None: ...

    async def holdings(
        self, account_id: int, *, present: bool, retention: RetentionPolicy, ran: float
    ) -> list[Holding]:
        """Who has which message with a blob, for those present upstream or for those not.

        A device is active when it was seen within `retention.device_expiry` of this running time.
        """

    async def is_intact(self, digest: bytes) -> bool:
        """Re-read the blob and compare. One that is missing, damaged or unreadable is lost: marked
        to be fetched again, and left out of views. One that is whole is lost no more."""

    async def note_deleting(self, message_ids: Collection[int], *, at: float) -> None:
        """Our DELE for these is about to be sent; an answer may never come."""

    async def note_not_deleted(self, message_ids: Collection[int]) -> None:
        """They are still there: upstream has refused the DELE, or lists them again."""

    async def note_expunged(self, message_ids: Collection[int], *, at: float) -> None:
        """Upstream has answered QUIT with +OK after our DELE for these."""

    async def purge(self, account_id: int, message_ids: Collection[int], *, at: float) -> int:
        """Drop blobs; rows stay as tombstones, so that their UIDLs are never used again.

        Returns the octets freed.
        """


class Doubts(Protocol):
    """Listings that lack too much to be believed at once; see `domain.doubt`."""

    async def spell(self, account_id: int) -> Spell | None: ...

    async def note_spell(self, account_id: int, spell: Spell | None) -> None:
        """None: it is over."""


class Seen(Protocol):
    """What devices had before they came to the proxy, by upstream's UIDLs."""

    async def import_seen(
        self, device_id: int, uids: Collection[str], *, slashes_lost: bool, at: float
    ) -> Imported:
        """The device has had these: each is retrieved and deleted on it, now or when it comes.

        With `slashes_lost` each "-" may have been "/" upstream. A UIDL that has named more than
        one message of the account marks none: the device may have had either. Doing it twice is
        harmless.
        """

    async def note_unlisted(
        self, account_id: int, listed: Collection[str], *, before: float
    ) -> None:
        """UIDLs imported by this running time and not listed are gone, or not shown yet.

        From now on each counts only for a message that arrived before it was imported: upstream may
        have given it to other mail.
        """


class Own(Protocol):
    """Messages that the proxy makes itself. Upstream knows nothing of them, nor does the sync."""

    async def add_own(
        self,
        account_id: int,
        blob: Blob,
        *,
        but_not_for: int | None = None,
        sending: int | None = None,
        at: float,
    ) -> int:
        """Make a finished blob durable and show it to all devices of the account but one.

        `sending`: it is the copy of the mail noted so, which is settled by that. Returns the
        message's id.
        """

    async def add_copy(self, account_id: int, message_id: int, device_id: int, *, at: float) -> str:
        """Show a message to this device once more, under a UIDL never used; returns that.

        Raises:
            NotFound: it is no longer in the store.
        """

    async def withdraw(self, account_id: int, message_ids: Collection[int], *, at: float) -> None:
        """Own messages are shown no more to those that have not got them."""


class SentMails(Protocol):
    """Mails that devices have sent. They are remembered for some days, to be known when they come
    back; see `Fetched.sent_as`."""

    async def note_sending(
        self, account_id: int, device_id: int | None, message_id: str, *, at: float
    ) -> int:
        """A mail is about to be sent; returns the note's number. A device that has been removed is
        none."""

    async def forget_sending(self, sending: int) -> None:
        """It was not sent, or nobody need be told any more."""

    async def settle_sending(self, sending: int) -> None:
        """It was sent, and there is no copy of it."""

    async def sendings(self) -> list[Sending]:
        """Those of which it is not known what became."""


class Troubles(Protocol):
    """What people are told of, and what of that they have been told."""

    async def troubles(self) -> list[Trouble]:
        """All that are kept, oldest first."""

    async def add_trouble(
        self,
        account_id: int | None,
        kind: TroubleKind | ReportKind,
        *,
        subject: str,
        body: str,
        marks: Sequence[str] = (),
        notice: Blob | None = None,
        at: float,
    ) -> None:
        """It begins, and its notice, a finished blob, is shown to all devices of the account."""

    async def end_trouble(self, trouble: Trouble, *, at: float) -> None:
        """It is over: its notice is shown no more to those that have not got it."""

    async def set_marks(self, trouble_id: int, marks: Sequence[str]) -> None: ...

    async def note_alerted(
        self, *, began: Collection[int], over: Collection[int], at: float
    ) -> None:
        """The operator was told that these began, and that those are over."""

    async def drop_troubles(self, *, over_before: float) -> None:
        """Forget those that have been over since before this time."""


class Records(Protocol):
    """What an operator looks at and repairs."""

    async def size(self, account_id: int) -> AccountSize: ...

    async def waiting(self, device_id: int) -> int:
        """Messages in the store that are for this device, which it neither has nor deleted."""

    async def records(self, account_id: int) -> list[MessageRecord]:
        """All messages of an account with a blob, oldest first."""

    async def lost(self, account_id: int) -> list[MessageRecord]:
        """Those of them whose blob is lost. Costs nothing while none is."""

    async def record(self, account_id: int, uid: str) -> MessageRecord | None:
        """The message that devices know by this UIDL, purged or not."""

    async def deliveries(self, message_id: int) -> list[Delivery]:
        """By device name; devices that did nothing with it are left out."""

    async def blobs(self) -> list[bytes]:
        """Digests of all blobs that some message names."""

    async def damage(self) -> list[str]:
        """What is wrong with the catalogue's own file, in words for an operator."""

    async def account_names_with(self, digest: bytes) -> list[str]:
        """Accounts with a message of this digest that is not purged."""


class Orphans(Protocol):
    """Messages on the disk that no row names: a crash, or another catalogue, has left them.

    None is removed for that. They are set aside, where nobody sees them.
    """

    async def clean_up(self) -> int:
        """For who is about to serve, before anything else: set aside what no row names, drop what a
        crash left of messages that were coming in, and begin to keep note of how old the catalogue
        is. Returns how many were set aside.

        Raises:
            StoreUnavailable: what was not reached lies where it did, which does no harm.
        """

    async def settle(self) -> None:
        """Remove what purges could not, and note how old the catalogue is."""

    async def set_aside(self) -> int:
        """What no row names now; returns how many that were."""

    async def orphans(self) -> list[bytes]:
        """Digests of all that are set aside."""

    async def orphan(self, digest: bytes) -> Fetched | None:
        """Read one that is set aside; None: it is not what its name says.

        It is taken to have arrived when a server's stamp says so, or else when it was stored.

        Raises:
            NotFound: it has gone, since somebody has brought it again or removed it.
            StoreUnavailable: it cannot be read.
        """

    async def adopt(
        self, orphan: Fetched, account_id: int | None, *, upstream: Upstream, at: float
    ) -> bool:
        """Take it in again: for the messages of its digest, if there are any, though all of them
        were purged, but then not for devices that had them; otherwise as a new message of this
        account, under a UIDL never used. False: nothing tells whose it is.

        Raises:
            NotFound, StoreUnavailable: as `orphan`.
        """


class Store(
    Time,
    Accounts,
    Merges,
    SameMailboxes,
    Devices,
    Views,
    Syncing,
    Doubts,
    Seen,
    Own,
    SentMails,
    Troubles,
    Records,
    Orphans,
    Protocol,
):
    """The whole store."""

    async def secret(self, name: str, *, fresh: bytes) -> bytes:
        """The octets kept under this name; if there are none, `fresh` is from now on."""

    async def kept(self, name: str) -> bytes | None:
        """What `keep` was given under this name last."""

    async def keep(self, name: str, value: bytes | None) -> None:
        """Keep octets that somebody else has encrypted; None: no longer."""

    async def is_writable(self) -> bool:
        """By what was written a moment ago, or by trying."""

    async def close(self) -> None: ...
