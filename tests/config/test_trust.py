"""Whose configuration is believed when nobody has named it."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.cli import common
from proxy.cli.common import settings_from
from proxy.config.load import load
from proxy.domain.errors import BadConfig
from tests.config.reading import HOST

NOBODY = 65534

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to somebody else")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """In a folder of ours, which is the current one."""
    folder = tmp_path / "here"
    folder.mkdir(mode=0o755)
    path = folder / "proxy.toml"
    path.write_text(HOST)
    path.chmod(0o644)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(common, "USUAL_PLACES", (Path("proxy.toml"),))
    for name in [name for name in os.environ if name.startswith("POP3_SYNC_")]:
        monkeypatch.delenv(name)
    yield path
    folder.chmod(0o755)


def refused(word: str) -> None:
    with pytest.raises(BadConfig) as caught:
        settings_from(None)
    (line,) = caught.value.problems
    assert line.startswith("proxy.toml: found here, and not used: ")
    assert word in line
    assert "--config proxy.toml" in line
    assert "chown" in line
    assert "chmod" in line


def test_ours_is_used(file: Path) -> None:
    assert settings_from(None).upstream.host == "pop.example.com"


@pytest.mark.parametrize("mode", [0o666, 0o646, 0o622, 0o602])
def test_a_file_that_others_may_write_is_refused(file: Path, mode: int) -> None:
    file.chmod(mode)
    refused("others may write")


@root_only
@pytest.mark.parametrize("mode", [0o664, 0o620])
def test_a_file_that_root_s_group_may_write_is_refused(file: Path, mode: int) -> None:
    file.chmod(mode)
    refused("others may write")


@pytest.mark.parametrize(("mode", "fine"), [(0o777, False), (0o1777, True), (0o711, True)])
def test_its_folder_is_nobody_else_s_to_change(file: Path, mode: int, *, fine: bool) -> None:
    file.parent.chmod(mode)
    if fine:
        settings_from(None)
    else:
        refused("others may write")


@root_only
@pytest.mark.parametrize("which", ["file", "folder"])
def test_a_stranger_s_is_refused(file: Path, which: str) -> None:
    os.chown(file if which == "file" else file.parent, NOBODY, NOBODY)
    refused("belongs to user 65534")


@root_only
def test_a_stranger_in_a_shared_folder_is_refused(file: Path) -> None:
    file.parent.chmod(0o1777)
    os.chown(file, NOBODY, NOBODY)
    refused("belongs to user 65534")


@pytest.mark.parametrize("where", ["file", "folder"])
def test_of_a_link_the_real_file_and_its_folder_count(
    file: Path, tmp_path: Path, where: str
) -> None:
    real = tmp_path / "real"
    real.mkdir(mode=0o755)
    file.rename(real / "other.toml")
    file.symlink_to(real / "other.toml")
    settings_from(None)
    if where == "file":
        (real / "other.toml").chmod(0o666)
    else:
        real.chmod(0o777)
    refused("others may write")


@root_only
def test_a_stranger_s_link_to_a_file_of_ours_is_refused(file: Path, tmp_path: Path) -> None:
    file.rename(tmp_path / "ours.toml")
    file.symlink_to(tmp_path / "ours.toml")
    os.lchown(file, NOBODY, NOBODY)
    file.parent.chmod(0o1777)
    refused("belongs to somebody else")


@root_only
def test_a_group_of_one_s_own_is_nobody_else(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where every user has one, and the umask is 002."""

    class Owner:
        pw_name, pw_gid = "alice", 4711

    class Group:
        gr_name = "alice"
        gr_mem: tuple[str, ...] = ("alice",)

    monkeypatch.setattr(pwd, "getpwuid", lambda _uid: Owner)
    monkeypatch.setattr(grp, "getgrgid", lambda _gid: Group)
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    for path, mode in ((file, 0o664), (file.parent, 0o775)):
        os.chown(path, 4711, 4711)
        path.chmod(mode)
    settings_from(None)
    Group.gr_mem = ("alice", "mallory")
    refused("others may write")


@root_only
def test_what_the_operator_names_is_the_operator_s_decision(file: Path) -> None:
    os.chown(file, NOBODY, NOBODY)
    assert settings_from(file).upstream.host == "pop.example.com"


def test_a_named_file_that_anybody_may_write_is_used_with_a_word(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings_from(file)
    assert capsys.readouterr().err == ""
    file.chmod(0o646)
    assert settings_from(file).upstream.host == "pop.example.com"
    assert f"anybody may write {file}" in capsys.readouterr().err


def test_what_is_judged_is_what_is_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exchanged between opening and judging."""
    real = os.fstat

    def exchange(descriptor: int) -> os.stat_result:
        status = real(descriptor)
        if stat.S_ISREG(status.st_mode):
            (file.parent / "new").write_text(HOST)
            (file.parent / "new").rename(file)
        return status

    monkeypatch.setattr("proxy.config.load.os.fstat", exchange)
    with pytest.raises(BadConfig, match="exchanged"):
        load(file, {}, found=True)
