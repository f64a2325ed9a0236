"""Blobs that are let go of: noted with the change that lets go of them, so that a file which could
not be unlinked then is told from one that this catalogue merely does not know."""

from __future__ import annotations

from collections.abc import Iterable

from proxy.adapters.blobs import Blobs
from proxy.adapters.sqlite.connection import Connection
from proxy.adapters.sqlite.database import Database

_LEFT = """
SELECT digest FROM freed_blob WHERE NOT EXISTS (
  SELECT 1 FROM message WHERE message.digest = freed_blob.digest AND purged_at IS NULL)
"""


async def note_freed(change: Connection, digests: Iterable[bytes]) -> None:
    await change.executemany(
        "INSERT INTO freed_blob (digest) VALUES (?) ON CONFLICT DO NOTHING",
        [(digest,) for digest in digests],
    )


async def remove_freed(database: Database, blobs: Blobs) -> None:
    """Unlink what is noted; what cannot be stays noted. The caller holds the blobs' lock.

    Raises:
        StoreUnavailable
    """
    left = [digest for (digest,) in await database.fetch(_LEFT)]
    stay = await blobs.remove(left)
    async with database.transaction() as change:
        await change.execute("DELETE FROM freed_blob")
        await note_freed(change, stay)
