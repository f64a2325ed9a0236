"""The commands behind `message …`: what is known of each message, and showing one again."""

from __future__ import annotations

from proxy.domain.errors import NotFound
from proxy.domain.model import Delivery, Device, MessageRecord
from proxy.interfaces.store import Store
from proxy.interfaces.world import Clock
from proxy.services.admin_names import Names, Row


class MessageCommands:
    def __init__(self, store: Store, clock: Clock, names: Names) -> None:
        self._store = store
        self._clock = clock
        self._names = names

    async def list(self, account: str) -> list[Row]:
        """Stored messages, oldest first."""
        known = await self._names.account(account)
        return [
            {
                "uid": record.uid,
                "octets": record.octets,
                "sha256": record.digest.hex(),
                "received_at": record.received_at,
            }
            for record in await self._store.records(known.id)
        ]

    async def show(self, account: str, uid: str) -> Row:
        """One message: where it came from, where it is, and what each device did with it."""
        known = await self._names.account(account)
        record = await self._names.message(known, uid)
        devices = await self._store.devices(known.id)
        deliveries = {one.device: one for one in await self._store.deliveries(record.id)}
        return {
            "account": known.name,
            "uid": record.uid,
            "octets": record.octets,
            "sha256": record.digest.hex(),
            "received_at": record.received_at,
            "fetched_at": record.fetched_at,
            "upstream": "never" if record.own else record.upstream.value,
            "left_upstream_at": record.left_upstream_at,
            "deleted_everywhere_at": record.deleted_at,
            "purged_at": record.purged_at,
            "blob_lost": record.blob_lost,
            "deliveries": [
                _delivery_row(record, device, deliveries.get(device.name))
                for device in devices
                if record.only_device in (None, device.id)
            ],
        }

    async def resend(self, account: str, uid: str, device: str) -> Row:
        """Show a message to a device once more, under a UIDL of its own: the old one is one that
        the mail program knows and would pass over."""
        known, found = await self._names.device(account, device)
        record = await self._names.message(known, uid)
        if record.purged_at is not None:
            raise NotFound(f"message {uid} has left the store")
        copy = await self._store.add_copy(known.id, record.id, found.id, at=self._clock.now())
        return {"account": known.name, "device": found.name, "uid": copy}


def _delivery_row(record: MessageRecord, device: Device, done: Delivery | None) -> Row:
    if done is not None:
        state = "deleted" if done.deleted_at is not None else "retrieved"
    elif device.is_before_backlog(record.id, record.received_at, dated=record.dated):
        state = "older than its backlog"
    elif record.deleted_at is not None:
        state = "deleted by another device"
    else:
        state = "waiting" if record.purged_at is None else "never had it"
    return {
        "device": device.name,
        "state": state,
        "retrieved_at": done.retrieved_at if done else None,
        "deleted_at": done.deleted_at if done else None,
    }
