"""SIGKILL at any instant: what was acknowledged is there, and nothing half-made is."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

from proxy.adapters.store import open_store

_WRITER = """
import asyncio, json, sys
from pathlib import Path
from proxy.adapters.store import open_store
from tests.interfaces.store_contract import NOW, fetched

def said(what, value):
    print(json.dumps([what, value]), flush=True)

async def main():
    store = await open_store(Path(sys.argv[1]))
    alice = await store.ensure_account("alice", declared=True, at=NOW)
    device = await store.device(alice.id, "d") or await store.add_device(
        alice.id, "d", since=None, at=NOW)
    start = len(await store.known(alice.id))
    said("open", start)
    for number in range(start, start + 10_000):
        uids = [f"u{number}-{n}" for n in range(3)]
        bodies = [b"%d %d" % (number, n) + b"x" * n * 200_000 + b"\\r\\n" for n in range(3)]
        batch = [await fetched(store, body, uid) for body, uid in zip(bodies, uids)]
        await store.add_messages(alice.id, batch, at=NOW)
        said("stored", uids)
        newest = (await store.messages(alice.id))[-1]
        await store.commit_session(
            device.id, retrieved={newest.id}, deleted=set(), everywhere=False, at=NOW)
        said("committed", newest.id)

asyncio.run(main())
"""

KILLS = 12


async def test_whatever_was_acknowledged_survives_sigkill(tmp_path: Path) -> None:
    rng = random.Random(1)
    stored: set[str] = set()
    committed: set[int] = set()
    for _ in range(KILLS):
        # Killed after so many acknowledgements and a little more, inside the next verb.
        _write_and_kill(tmp_path, rng.randint(1, 12), rng.random() * 0.01, stored, committed)
        store = await open_store(tmp_path)
        await store.clean_up()
        alice = await store.account("alice")
        assert alice is not None
        messages = await store.messages(alice.id)
        assert stored <= {message.uid for message in messages}
        for message in messages:
            assert await store.is_intact(message.digest)
        files = {p.name for p in (tmp_path / "blobs").glob("??/*")}
        assert files == {message.digest.hex() for message in messages}
        assert [p for p in (tmp_path / "blobs" / "tmp").iterdir() if p.is_file()] == []
        for message_id in committed:
            assert len(await store.deliveries(message_id)) == 1
        await store.close()
    assert len(stored) > KILLS
    assert len(committed) > KILLS


def _write_and_kill(
    data_dir: Path, after: int, linger: float, stored: set[str], committed: set[int]
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(data_dir)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for _ in range(after):
            _note(process.stdout.readline(), stored, committed)
        try:
            process.wait(linger)
        except subprocess.TimeoutExpired:
            process.kill()
        # What it managed to say before it died counts as well.
        for line in process.stdout:
            _note(line, stored, committed)


def _note(line: str, stored: set[str], committed: set[int]) -> None:
    if not line.endswith("\n"):
        return
    what, value = json.loads(line)
    if what == "stored":
        stored.update(value)
    elif what == "committed":
        committed.add(value)
