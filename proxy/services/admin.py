"""What an operator asks and tells: the commands behind `account`, `device`, `message`, `status`.

Each returns plain data (dictionaries, lists, numbers, text; times as Unix times) for a table or for
JSON. The same code serves a running proxy, through its control socket, and a stopped one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from proxy.domain.directory import DeclaredAccount, Directory
from proxy.domain.errors import BadRequest, NotFound
from proxy.domain.model import Account, Device, is_valid_device_name
from proxy.interfaces.store import Store
from proxy.interfaces.world import World
from proxy.services.credentials import ScramSecrets, app_password_hash, new_app_password
from proxy.services.logins import since
from proxy.services.syncs import Syncs
from proxy.services.tokens import KeptSecrets

Row = dict[str, Any]


class Admin:
    def __init__(
        self,
        store: Store,
        world: World,
        directory: Directory,
        syncs: Syncs,
        scram_secrets: ScramSecrets,
        kept: KeptSecrets,
    ) -> None:
        self._kept = kept
        self._store = store
        self._clock = world.clock
        self._entropy = world.entropy
        self._issuer = world.issuer
        self._directory = directory
        self._syncs = syncs
        self._scram_secrets = scram_secrets

    async def call(self, command: str, arguments: dict[str, Any]) -> Any:
        """Run a command by its name, such as "device add".

        Raises:
            BadRequest: no such command, or other arguments than it takes.
            NotFound, AlreadyExists, Temporary, Permanent: as the command says.
        """
        commands: dict[str, Callable[..., Awaitable[Any]]] = {
            "status": self.status,
            "account list": self.account_list,
            "account show": self.account_show,
            "account sync": self.account_sync,
            "account set-password": self.account_set_password,
            "account keep-token": self.account_keep_token,
            "device list": self.device_list,
            "device add": self.device_add,
            "device certificate": self.device_certificate,
            "device rename": self.device_rename,
            "device remove": self.device_remove,
            "device reset": self.device_reset,
            "message list": self.message_list,
            "message show": self.message_show,
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
        """All accounts with their devices."""
        return {"accounts": [await self.account_show(name) for name in await self._names()]}

    async def account_list(self) -> list[Row]:
        rows = []
        for name in await self._names():
            row, known = await self._account_row(name)
            devices = await self._store.devices(known.id) if known else []
            rows.append({**row, "devices": len(devices)})
        return rows

    async def account_show(self, account: str) -> Row:
        """One account and its devices."""
        row, known = await self._account_row(account)
        return {**row, "devices": await self._device_rows(known) if known else []}

    async def _names(self) -> list[str]:
        """Accounts that exist or are declared."""
        names = {account.name for account in await self._store.accounts()}
        return sorted(names | {declared.name for declared in self._directory.all_declared()})

    async def _account_row(self, account: str) -> tuple[Row, Account | None]:
        """What is known of an account, its devices apart; None: declared, and not met yet."""
        declared = self._directory.declared(account)
        known = await self._store.account(account)
        if known is None and declared is None:
            raise NotFound(f"no account {account}")
        upstream = self._directory.policy(account).upstream
        messages, octets = await self._store.size(known.id) if known else (0, 0)
        row = {
            "account": account,
            "declared": declared is not None,
            "upstream": f"{upstream.host}:{upstream.port}",
            "upstream_messages": known.upstream_count if known else 0,
            "messages": messages,
            "octets": octets,
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

    async def account_sync(self, account: str) -> Row:
        """Sync a declared account now and say what came of it."""
        declared = self._directory.declared(account)
        if declared is None:
            await self._account(account)
            raise BadRequest(
                f"{account} is a pass-through account: it is synced when a device logs in, since "
                "the proxy does not keep its password"
            )
        result = await self._syncs.start(account, declared.credentials).finished
        return {
            "account": account,
            "listed": result.listed,
            "fetched": result.fetched,
            "octets": result.octets,
            "expunged": result.expunged,
            "left": result.left,
            "failed": result.failed,
            "seconds": round(result.seconds, 3),
        }

    async def account_set_password(self, account: str, password: str) -> Row:
        """Keep the upstream password of a declared account, encrypted."""
        declared = self._declared(account)
        if not declared.password_stored:
            raise BadRequest(
                f"the configuration says where the password of {account} is: write "
                "password_stored = true there instead"
            )
        secret = password.encode()
        if not secret or any(octet in secret for octet in b"\r\n\0"):
            raise BadRequest("a password is on one line, and not empty")
        await self._kept.keep_password(account, secret)
        self._directory.set_password(account, secret)
        self._syncs.try_again(account, self._declared(account).credentials)
        return {"account": account}

    async def account_keep_token(self, account: str, refresh_token: str) -> Row:
        """Keep the refresh token that a person's consent has brought, encrypted."""
        declared = self._declared(account)
        await self._kept.keep_refresh_token(account, refresh_token.encode())
        self._syncs.try_again(account, declared.credentials)
        return {"account": account}

    def _declared(self, account: str) -> DeclaredAccount:
        declared = self._directory.declared(account)
        if declared is None:
            raise NotFound(f"no [[account]] {account} in the configuration")
        return declared

    async def device_list(self, account: str) -> list[Row]:
        return await self._device_rows(await self._account(account))

    async def device_add(self, account: str, device: str) -> Row:
        """Make a device with an app password, which is shown this once."""
        known = await self._account(account, make_declared=True)
        _check_device_name(device)
        password = new_app_password(self._entropy)
        now = self._clock.now()
        policy = self._directory.policy(account)
        made = await self._store.add_device(
            known.id,
            device,
            since=since(policy.devices.backlog, now),
            app_password_hash=app_password_hash(password.encode()),
            scram_keys=await self._scram_secrets.stored(account, password),
            at=now,
        )
        return {"account": account, "device": made.name, "app_password": password}

    async def device_certificate(self, account: str, device: str) -> Row:
        """Make a certificate that the device may log in with; an earlier one ends. All in PEM."""
        known, found = await self._device(account, device)
        separator = self._directory.default.devices.separator
        issued = self._issuer.issue(f"{known.name}{separator}{found.name}")
        await self._store.set_certificate(found.id, issued.fingerprint)
        return {
            "account": known.name,
            "device": found.name,
            "private_key": issued.private_key,
            "certificate": issued.certificate,
            "authority": issued.authority,
        }

    async def device_rename(self, account: str, device: str, name: str) -> Row:
        known, found = await self._device(account, device)
        _check_device_name(name)
        await self._store.rename_device(found.id, name)
        return {"account": known.name, "device": name}

    async def device_remove(self, account: str, device: str) -> Row:
        known, found = await self._device(account, device)
        await self._store.remove_device(found.id)
        return {"account": known.name, "device": found.name}

    async def device_reset(self, account: str, device: str) -> Row:
        """Let the device have all stored mail again."""
        known, found = await self._device(account, device)
        await self._store.reset_device(found.id)
        return {"account": known.name, "device": found.name}

    async def message_list(self, account: str) -> list[Row]:
        known = await self._account(account)
        return [
            {"uid": message.uid, "octets": message.octets}
            for message in await self._store.messages(known.id)
        ]

    async def message_show(self, account: str, uid: str) -> Row:
        """One message: its size, its digest, and what each device did with it."""
        known = await self._account(account)
        for message in await self._store.messages(known.id):
            if message.uid == uid:
                break
        else:
            raise NotFound(f"no message {uid} in the store of {account}")
        return {
            "account": account,
            "uid": message.uid,
            "octets": message.octets,
            "sha256": message.digest.hex(),
            "deliveries": [
                {"device": device, "retrieved_at": retrieved, "deleted_at": deleted}
                for device, retrieved, deleted in await self._store.deliveries(message.id)
            ],
        }

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

    async def _account(self, name: str, *, make_declared: bool = False) -> Account:
        account = await self._store.account(name)
        if account is None and make_declared and self._directory.declared(name):
            account = await self._store.ensure_account(name, declared=True, at=self._clock.now())
        if account is None:
            raise NotFound(f"no account {name}")
        return account

    async def _device(self, account: str, name: str) -> tuple[Account, Device]:
        known = await self._account(account)
        device = await self._store.device(known.id, name)
        if device is None:
            raise NotFound(f"account {account} has no device {name}")
        return known, device


def _check_device_name(name: str) -> None:
    if not is_valid_device_name(name):
        raise BadRequest(f"{name!r} is no device name: 1 to 32 of A-Z a-z 0-9 . _ -")
