"""What an operator asks and tells: the commands behind `account`, `device`, `message`, `status`.

The same code serves a running proxy, through its control socket, and a stopped one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from functools import partial
from typing import Any

from proxy.domain.directory import Directory
from proxy.domain.errors import BadRequest, NotFound, Temporary
from proxy.domain.labels import metrics_label
from proxy.domain.model import Account, AccountSize, is_valid_device_name
from proxy.interfaces.store import Store
from proxy.interfaces.world import World
from proxy.services.admin_merge import MergeCommand
from proxy.services.admin_messages import MessageCommands
from proxy.services.admin_names import Names, Report, Row, unheard
from proxy.services.credentials import ScramSecrets, app_password_hash, new_app_password
from proxy.services.enrolment import since
from proxy.services.import_seen import ImportSeen
from proxy.services.janitor import Janitor
from proxy.services.maildrops import Maildrops
from proxy.services.newcomers import Newcomers
from proxy.services.rights import Rights
from proxy.services.submissions import Submissions
from proxy.services.syncs import Syncs
from proxy.services.timekeeper import Timekeeper
from proxy.services.tokens import KeptSecrets
from proxy.services.upkeep import Upkeep


class Admin:
    def __init__(
        self,
        store: Store,
        world: World,
        directory: Directory,
        syncs: Syncs,
        scram_secrets: ScramSecrets,
        kept: KeptSecrets,
        janitor: Janitor,
        maildrops: Maildrops,
        submissions: Submissions,
        newcomers: Newcomers,
        rights: Rights,
        timekeeper: Timekeeper,
        *,
        label_key: bytes | None,
    ) -> None:
        self._label_key = label_key
        self._kept = kept
        self._maildrops = maildrops
        self._submissions = submissions
        self._newcomers = newcomers
        self._rights = rights
        self._timekeeper = timekeeper
        self._store = store
        self._clock = world.clock
        self._entropy = world.entropy
        self._issuer = world.issuer
        self._directory = directory
        self._syncs = syncs
        self._scram_secrets = scram_secrets
        self._names = Names(store, directory, timekeeper)
        self._messages = MessageCommands(store, world.clock, self._names)
        self._merge = MergeCommand(
            store, world.clock, self._names, maildrops, syncs, submissions, kept, rights
        )
        self._upkeep = Upkeep(
            store, world.clock, directory, self._names, syncs, janitor, timekeeper
        )
        self.import_seen = ImportSeen(store, timekeeper, directory).run

    async def call(self, command: str, arguments: dict[str, Any], report: Report = unheard) -> Any:
        """Run a command by its name, such as "device add".

        Raises:
            BadRequest: no such command, or other arguments than it takes.
            NotFound, AlreadyExists, Temporary, Permanent: as the command says.
        """
        commands: dict[str, Callable[..., Awaitable[Any]]] = {
            "status": self.status,
            "account list": self.account_list,
            "account show": self.account_show,
            "account sync": partial(self._upkeep.sync_one, report),
            "account remove": self.account_remove,
            "account look-at-merge": self._merge.look,
            "account merge": self._merge.run,
            "account distinct": self._merge.tell_apart,
            "account set-password": self.account_set_password,
            "account keep-token": self.account_keep_token,
            "device list": self.device_list,
            "device add": self.device_add,
            "device certificate": self.device_certificate,
            "device rename": self.device_rename,
            "device remove": self.device_remove,
            "device reset": self.device_reset,
            "device import-seen": self.import_seen,
            "device mark-delivered": self.device_mark_delivered,
            "message list": self._messages.list,
            "message show": self._messages.show,
            "message resend": self._messages.resend,
            "sync": partial(self._upkeep.sync, report),
            "gc": self._upkeep.gc,
            "clock ok": self.clock_ok,
            "verify": partial(self._upkeep.verify, report),
        }
        run = commands.get(command)
        if run is None:
            raise BadRequest(f"no command {command!r}")
        try:
            work = run(**arguments)
        except TypeError as error:
            raise BadRequest(f"{command}: {error}") from None
        return await work

    async def status(self) -> Row:
        """All accounts with their devices, and what a person has to know of."""
        names = {account.id: account.name for account in await self._store.accounts()}
        return {
            "accounts": [await self.account_show(name) for name in await self._names.accounts()],
            "troubles": [
                {
                    "account": names.get(trouble.account_id or 0, ""),
                    "kind": trouble.kind,
                    "since": trouble.since,
                    "subject": trouble.subject,
                }
                for trouble in await self._store.troubles()
                if trouble.over_at is None and trouble.kind != "digest"
            ],
            "namesakes": await self._names.namesakes(),
        }

    async def clock_ok(self) -> Row:
        """A person says that the machine's clock is right.

        Raises:
            BadRequest: it cannot be.
        """
        return {"now": await self._timekeeper.trust()}

    async def account_list(self) -> list[Row]:
        rows = []
        alike = {name: names for names in await self._names.namesakes() for name in names}
        for name in await self._names.accounts():
            row, known = await self._account_row(name)
            devices = await self._store.devices(known.id) if known else []
            namesakes = alike.get(name, [])
            rows.append({**row, "devices": len(devices), "namesakes": namesakes})
        return rows

    async def account_show(self, account: str) -> Row:
        """One account and its devices."""
        row, known = await self._account_row(account)
        return {**row, "devices": await self._device_rows(known) if known else []}

    async def _account_row(self, account: str) -> tuple[Row, Account | None]:
        """What is known of an account, its devices apart; None: declared, and not met yet."""
        account = await self._names.spelling(account)
        declared = self._directory.declared(account)
        known = await self._store.account(account)
        if known is None and declared is None:
            raise NotFound(f"no account {account}")
        policy = self._directory.policy(account)
        upstream, smtp = policy.upstream, policy.smtp
        sent = self._submissions.last.get(account)
        size = await self._store.size(known.id) if known else AccountSize(0, 0, 0)
        row = {
            "account": account,
            "metrics_label": metrics_label(account, self._label_key),
            "declared": declared is not None,
            "upstream": f"{upstream.host}:{upstream.port}",
            "smtp": f"{smtp.host}:{smtp.port}" if smtp.host else "",
            "submission": asdict(sent) if sent else None,
            "upstream_messages": known.upstream_count if known else 0,
            "upstream_octets": size.upstream_octets,
            "messages": size.messages,
            "octets": size.octets,
            "synced_at": known.synced_at if known else None,
            "failed_at": known.failed_at if known else None,
            "failure": known.failure if known else "",
            "failure_kind": known.failure_kind if known else "",
            "needs_consent": known is not None and known.failure_kind == "ConsentNeeded",
            "login_interval": known.login_interval if known else 0.0,
            "unfetched": [asdict(one) for one in known.unfetched] if known else [],
            "retry_in": round(self._syncs.retry_in(account)),
        }
        return row, known

    async def account_remove(self, account: str) -> Row:
        """Forget an account with its devices, its messages and its secrets; upstream keeps its own.

        Its sessions and its sync are ended first. Tells which older copies of the catalogue still
        have it; backups nobody here knows of.

        Raises:
            BadRequest: the configuration declares it.
            Temporary: a mail of it is on its way upstream.
        """
        known = await self._names.account(account)
        account = known.name
        if await self._names.is_declared(known):
            raise BadRequest(f"{account} is declared: take its [[account]] out and reload first")
        async with self._rights.barred(lambda right: right.account == known.name) as all_ended:
            if not all_ended:
                raise Temporary(
                    f"a mail of {account} is on its way upstream, and its sessions end with that; "
                    "try again in a minute"
                )
            await self._syncs.break_off(account)
            async with self._maildrops.gate(known.id):
                size = await self._store.size(known.id)
                await self._kept.forget(account)
                await self._store.remove_account(known.id)
            # One that began meanwhile, for a login that nothing here could judge.
            await self._syncs.break_off(account)
        self._syncs.forget(account)
        self._submissions.forget(account)
        return {
            "account": account,
            "messages": size.messages,
            "octets": size.octets,
            "erased": await self._store.erase_traces(),
            "copies": await self._store.copies_with(account),
        }

    async def account_set_password(self, account: str, password: str) -> Row:
        """Keep the upstream password of a declared account, encrypted."""
        declared = self._names.declared(account)
        account = declared.name
        if not declared.password_stored:
            raise BadRequest(
                f"the configuration says where the password of {account} is: write "
                "password_stored = true there instead"
            )
        secret = password.encode()
        if not secret or any(octet in secret for octet in b"\r\n\0"):
            raise BadRequest("a password is on one line, and not empty")
        await self._kept.keep_password(account, secret)
        before = self._rights.secret(declared.credentials.password)
        self._directory.set_password(account, secret)
        if before != self._rights.secret(secret):
            self._rights.end("revoked", lambda r: (r.account, r.secret) == (declared.name, before))
        self._syncs.try_again(account, self._names.declared(account).credentials)
        return {"account": account}

    async def account_keep_token(self, account: str, refresh_token: str) -> Row:
        """Keep the refresh token that a person's consent has brought, encrypted."""
        declared = self._names.declared(account)
        await self._kept.keep_refresh_token(declared.name, refresh_token.encode())
        self._syncs.try_again(declared.name, declared.credentials)
        return {"account": declared.name}

    async def device_list(self, account: str) -> list[Row]:
        return await self._device_rows(await self._names.account(account))

    async def device_add(self, account: str, device: str) -> Row:
        """Make a device with an app password, which is shown this once.

        Raises:
            AlreadyExists, TooManyDevices: it is not made.
        """
        known = await self._names.account(account)
        _check_device_name(device)
        password = new_app_password(self._entropy)
        now = self._timekeeper.best_now()
        policy = self._directory.policy(known.name)
        made = await self._store.add_device(
            known.id,
            device,
            since=since(policy.devices.backlog, now),
            app_password_hash=app_password_hash(password.encode()),
            scram_keys=await self._scram_secrets.stored(known.name, password),
            at_most=self._newcomers.max_devices,
            at=now,
        )
        return {"account": known.name, "device": made.name, "app_password": password}

    async def device_certificate(self, account: str, device: str) -> Row:
        """Make a certificate that the device may log in with; an earlier one ends. All in PEM."""
        known, found = await self._names.device(account, device)
        issued = self._issuer.issue(f"{known.name}{self._directory.separator}{found.name}")
        await self._store.set_certificate(found.id, issued.fingerprint)
        before = found.certificate
        if before is not None:
            self._rights.end("revoked", lambda r: (r.device_id, r.secret) == (found.id, before))
        return {
            "account": known.name,
            "device": found.name,
            "private_key": issued.private_key,
            "certificate": issued.certificate,
            "authority": issued.authority,
        }

    async def device_rename(self, account: str, device: str, name: str) -> Row:
        known, found = await self._names.device(account, device)
        _check_device_name(name)
        await self._store.rename_device(found.id, name)
        return {"account": known.name, "device": name}

    async def device_remove(self, account: str, device: str) -> Row:
        known, found = await self._names.device(account, device)
        await self._store.remove_device(found.id)
        self._rights.end("revoked", lambda right: right.device_id == found.id)
        return {"account": known.name, "device": found.name}

    async def device_reset(self, account: str, device: str) -> Row:
        """Let the device have all stored mail again."""
        known, found = await self._names.device(account, device)
        await self._store.reset_device(found.id)
        # What its sessions show is what it had before.
        self._rights.end("changed", lambda right: right.device_id == found.id)
        return {"account": known.name, "device": found.name}

    async def device_mark_delivered(self, account: str, device: str, uids: list[str]) -> Row:
        """Take it that the device has these messages; without any, all that are stored.

        They are hidden from it, and from no other device.
        """
        known, found = await self._names.device(account, device)
        if uids:
            ids = {(await self._names.message(known, uid)).id for uid in uids}
        else:
            ids = {record.id for record in await self._store.records(known.id)}
        ids -= await self._store.hidden(found.id, "all")
        await self._store.commit_session(
            found.id, retrieved=ids, deleted=ids, everywhere=False, at=self._clock.now()
        )
        return {"account": known.name, "device": found.name, "messages": len(ids)}

    async def _device_rows(self, account: Account) -> list[Row]:
        return [
            {
                "device": device.name,
                "view": device.view or self._directory.policy(account.name).devices.view,
                "app_password": device.has_app_password,
                "certificate": device.certificate is not None,
                "seen_at": device.seen_at,
                "waiting": await self._store.waiting(device.id),
            }
            for device in await self._store.devices(account.id)
        ]


def _check_device_name(name: str) -> None:
    if not is_valid_device_name(name):
        raise BadRequest(f"{name!r} is no device name: 1 to 32 of A-Z a-z 0-9 . _ -")
