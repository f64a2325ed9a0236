"""A catalogue that is older, missing or damaged, a fresh store under old devices, another machine:
what serve says, and what each device then sees."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.dovecot import User
from tests.e2e.poplib_device import PoplibDevice
from tests.e2e.proxy import ProxyProcess
from tests.e2e.rig import Rig, assert_same_mails, small_mails
from tests.e2e.waiting import eventually
from tests.needs import need

pytestmark = pytest.mark.e2e

EXPIRES = {"retention": {"upstream": "age", "upstream_age": "0s"}}
"""Upstream is empty after the next sync: what the store has is all there is."""


class Stage:
    """The laptop polls whenever mail comes, the desktop is known and never has."""

    def __init__(self, rig: Rig, **sections: dict[str, str]) -> None:
        self.rig = rig
        self.user: User = rig.dovecot.add_user()
        self.proxy: ProxyProcess = rig.proxy(self.user, sections=sections)
        self.laptop = rig.device(self.proxy, self.user, "laptop")
        self.data = self.proxy.folder / "data"
        self.proxy.cli_json("account", "sync", self.user.name)
        assert self.proxy.cli("device", "add", self.user.name, "desktop").returncode == 0

    def mails(self, count: int, mark: str) -> list[bytes]:
        mails = small_mails(count, mark)
        self.rig.dovecot.deliver(self.user, *mails)
        self.laptop.poll()
        self.proxy.cli_json("account", "sync", self.user.name)
        return mails

    def start(self) -> None:
        self.proxy.start()
        self.laptop.endpoint = self.proxy.endpoint()

    def desktop(self) -> PoplibDevice:
        device = self.rig.device(self.proxy, self.user, "desktop")
        device.poll()
        return device

    def put(self, catalogue: Path) -> None:
        shutil.copy(catalogue, self.data / "catalogue.db")

    def blobs(self) -> set[str]:
        return {path.name for path in (self.data / "blobs").glob("*/*") if path.is_file()}

    def refused(self) -> str:
        """What serve says before it ends."""
        before = self.blobs()
        done = self.proxy.cli("serve")
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert self.proxy.cli("status").returncode == 1
        assert self.blobs() == before
        return done.stderr


def test_yesterday_s_catalogue_is_refused_and_loses_nothing_once_accepted(
    rig: Rig, tmp_path: Path
) -> None:
    stage = Stage(rig, **EXPIRES)
    mails = stage.mails(3, "yesterday")
    stage.proxy.stop()
    shutil.copy(stage.data / "catalogue.db", tmp_path / "yesterday.db")
    stage.start()
    mails += stage.mails(3, "today")
    stage.proxy.stop()
    shutil.copy(stage.data / "catalogue.db", tmp_path / "today.db")

    stage.put(tmp_path / "yesterday.db")
    assert "verify --adopt" in stage.refused()
    row = stage.proxy.cli_json("verify", "--adopt", "--account", stage.user.name)
    assert (row["adopted"]["adopted"], row["blobs"]) == (3, 6)
    stage.start()
    assert_same_mails(stage.desktop().mails(), mails)
    # It had them, but nothing tells of that any more.
    stage.laptop.poll()
    assert len(stage.laptop.mails()) == 9

    stage.proxy.stop()
    stage.put(tmp_path / "today.db")
    stage.refused()
    assert stage.proxy.cli("verify", "--adopt").returncode == 0
    stage.start()
    assert_same_mails(stage.desktop().mails(), mails)


@pytest.mark.parametrize("state", ["missing", "empty"])
def test_a_catalogue_moved_away_for_a_look_costs_no_mail(
    rig: Rig, tmp_path: Path, state: str
) -> None:
    stage = Stage(rig, **EXPIRES)
    mails = stage.mails(4, "kept")
    stage.proxy.stop()
    shutil.move(stage.data / "catalogue.db", tmp_path / "moved.db")
    if state == "empty":
        (stage.data / "catalogue.db").touch()
    assert "missing or empty" in stage.refused()
    stage.put(tmp_path / "moved.db")
    stage.start()
    assert_same_mails(stage.desktop().mails(), mails)


def test_a_damaged_catalogue_says_what_to_do_and_sqlite_s_own_recovery_keeps_devices(
    rig: Rig, tmp_path: Path
) -> None:
    stage = Stage(rig)
    mails = stage.mails(4, "kept")
    stage.proxy.stop()
    catalogue = stage.data / "catalogue.db"
    sound = catalogue.read_bytes()
    catalogue.write_bytes(sound[:8192] + b"rubbish!" * ((len(sound) - 8192) // 8))
    said = stage.refused()
    assert "restore a backup" in said
    assert "recover" in said
    stage.put(_recovered(sound, tmp_path))
    stage.start()
    stage.laptop.poll()
    assert len(stage.laptop.mails()) == 4
    assert_same_mails(stage.desktop().mails(), mails)


def _recovered(catalogue: bytes, folder: Path) -> Path:
    """As docs/operating.md says where `sqlite3` has no `.recover`."""
    need("sqlite3")
    (folder / "damaged.db").write_bytes(catalogue)
    subprocess.run(
        "(sqlite3 damaged.db .dump | sed 's/^ROLLBACK.*/COMMIT;/'; "
        "echo \"PRAGMA user_version = $(sqlite3 damaged.db 'PRAGMA user_version');\") "
        "| sqlite3 new.db",
        shell=True,
        cwd=folder,
        check=True,
    )
    return folder / "new.db"


def test_a_fresh_store_shows_old_devices_the_uidls_that_they_remember(rig: Rig) -> None:
    """They fetch nothing again; a program without memory gets all of it once more."""
    stage = Stage(rig, devices={"view": "undelivered"})
    mails = stage.mails(4, "kept")
    stage.proxy.stop()
    shutil.rmtree(stage.data)
    stage.start()
    remembered = stage.laptop.by_uid.copy()
    stage.laptop.poll()
    assert stage.laptop.by_uid == remembered
    forgets = rig.device(stage.proxy, stage.user, "laptop")
    forgets.poll()
    assert_same_mails(forgets.mails(), mails)


def test_an_older_backup_brings_back_marks_and_fetches_what_upstream_still_has(
    rig: Rig, tmp_path: Path
) -> None:
    """Under the UIDLs that devices remember; what had left upstream since is gone."""
    stage = Stage(rig)
    mails = stage.mails(3, "before")
    assert stage.proxy.cli("backup", str(tmp_path / "backup")).returncode == 0
    mails += stage.mails(2, "after")
    stage.proxy.stop()
    stage.data.rename(tmp_path / "broken")
    assert stage.proxy.cli("restore", str(tmp_path / "backup")).returncode == 0
    stage.start()
    remembered = stage.laptop.by_uid.copy()
    stage.laptop.poll()
    assert stage.laptop.by_uid == remembered
    assert_same_mails(stage.desktop().mails(), mails)


def test_a_data_directory_moved_to_another_machine_goes_on_there(rig: Rig, tmp_path: Path) -> None:
    stage = Stage(rig)
    mails = stage.mails(3, "moved")
    stage.proxy.stop()
    stage.data.rename(tmp_path / "elsewhere")
    shutil.copytree(tmp_path / "elsewhere", stage.data)
    stage.start()
    asked = rig.tap.record().count("RETR")
    stage.laptop.poll()
    assert len(stage.laptop.mails()) == 3
    assert_same_mails(stage.desktop().mails(), mails)
    assert rig.tap.record().count("RETR") == asked


def test_mail_set_aside_is_told_to_the_operator(rig: Rig) -> None:
    stage = Stage(rig)
    stage.proxy.stop()
    stray = stage.data / "blobs" / "ab" / ("ab" * 32)
    stray.parent.mkdir()
    stray.write_bytes(b"whose?")
    stage.start()
    assert "messages_set_aside" in stage.proxy.log()
    eventually(
        lambda: [one["kind"] for one in stage.proxy.cli_json("status")["troubles"]] == ["orphans"],
        what="the trouble",
    )
