"""Thunderbird as a device: headless, with a profile of its own and a script to press the button.

Its autoconfiguration, which it reads from its own folder alone, gives that script the rights to
store a password and to quit. So it runs from a copy of its folder, made of links; the machine's
own installation stays as it is.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import ssl
import subprocess
from base64 import b64encode
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from tests.e2e.devices import PollFailed
from tests.e2e.more_clients import SCRIPTS, AnotherProgram, Unavailable

INSTALLATION = Path("/usr/lib/thunderbird")
PATIENCE = 50.0
"""Seconds for one poll, start and end of the program included."""
_AUTOCONFIG = {
    "general.config.filename": "poll.cfg",
    "general.config.obscure_value": 0,
    "general.config.sandbox_enabled": False,
}
_QUIET: dict[str, object] = {
    # Nothing but the mailbox is to be talked to, and no question asked.
    "app.normandy.enabled": False,
    "app.update.auto": False,
    "browser.safebrowsing.downloads.enabled": False,
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "datareporting.healthreport.uploadEnabled": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "extensions.blocklist.enabled": False,
    "extensions.update.enabled": False,
    "mail.provider.suppress_dialog_on_startup": True,
    "mail.shell.checkDefaultClient": False,
    "mailnews.start_page.enabled": False,
    "mailnews.start_page_override.mstone": "ignore",
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "network.proxy.type": 0,
    "toolkit.telemetry.enabled": False,
}
_OWN_HEADER = re.compile(
    rb"X-Account-Key: .*\nX-UIDL: .*\nX-Mozilla-Status: .*\nX-Mozilla-Status2: .*\n"
    rb"X-Mozilla-Keys: .*\r?\n"
)
_SOCKET_TYPE = {"plain": 0, "starttls": 2, "implicit": 3}


class Thunderbird(AnotherProgram):
    """With a Maildir store, one file a mail; below a header of its own; lines end in LF."""

    name = "thunderbird"
    exact = False
    program: ClassVar[Path]
    """The executable of the copy; `install` sets it."""

    @classmethod
    def install(cls, folder: Path) -> None:
        """Raises:
        Unavailable: there is no Thunderbird where Debian puts it.
        """
        cls.look_for()
        if not (INSTALLATION / "thunderbird-bin").is_file():
            raise Unavailable(f"there is no Thunderbird in {INSTALLATION}")
        folder.mkdir(exist_ok=True)
        for entry in INSTALLATION.iterdir():
            if entry.name not in ("defaults", "thunderbird", "thunderbird-bin"):
                (folder / entry.name).symlink_to(entry)
        # It takes its folder from where its executable really lies.
        shutil.copy(INSTALLATION / "thunderbird-bin", folder)
        shutil.copytree(INSTALLATION / "defaults", folder / "defaults")
        (folder / "defaults/pref/autoconfig.js").write_text(_prefs("pref", _AUTOCONFIG))
        shutil.copy(SCRIPTS / "thunderbird.cfg", folder / "poll.cfg")
        cls.program = folder / "thunderbird-bin"

    def set_up(self) -> None:
        self._result = self.folder / "result"
        self._profile = self.folder / "profile"
        self._profile.mkdir()
        server = {
            "type": "pop3",
            "hostname": self.endpoint.host,
            "port": self.endpoint.port,
            "socketType": _SOCKET_TYPE[self.endpoint.security],
            "userName": self.login.user,
            "authMethod": 3,
            "name": "the mailbox",
            "directory": str(self.store),
            "storeContractID": "@mozilla.org/msgstore/maildirstore;1",
            "leave_on_server": True,
            "delete_by_age_from_server": False,
            "login_at_startup": False,
            "check_new_mail": False,
        }
        local = {
            "type": "none",
            "hostname": "Local Folders",
            "userName": "nobody",
            "name": "Local Folders",
        }
        authority = ""
        if self.endpoint.security != "plain":
            pem = self.endpoint.ca_file.read_text()
            authority = b64encode(ssl.PEM_cert_to_DER_cert(pem)).decode("ascii")
        prefs = {
            **_QUIET,
            "mail.accountmanager.accounts": "account1,account2",
            "mail.accountmanager.defaultaccount": "account1",
            "mail.accountmanager.localfoldersserver": "server2",
            "mail.account.account1.identities": "id1",
            "mail.account.account1.server": "server1",
            "mail.account.account2.server": "server2",
            "mail.identity.id1.useremail": "bob@example.com",
            **{f"mail.server.server1.{key}": value for key, value in server.items()},
            **{f"mail.server.server2.{key}": value for key, value in local.items()},
            "tests.authority": authority,
            "tests.password": self.login.password,
            "tests.result": str(self._result),
        }
        (self._profile / "user.js").write_text(_prefs("user_pref", prefs))

    def poll(self) -> None:
        self._result.unlink(missing_ok=True)
        log = self.folder / "log"
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self.folder),
            "LC_ALL": "C.UTF-8",
            "MOZ_CRASHREPORTER_DISABLE": "1",
        }
        with log.open("wb") as output:
            process = subprocess.Popen(
                [self.program, "--headless", "--no-remote", "--profile", str(self._profile)],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise PollFailed(f"Thunderbird did not end; result: {self._outcome()!r}") from None
        finally:
            # Its helper processes are in its group.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if self._outcome() != "done":
            raise PollFailed(f"Thunderbird: {self._outcome()!r}")

    def _outcome(self) -> str:
        return self._result.read_text() if self._result.exists() else ""

    def remembered(self) -> set[str]:
        """The UIDLs it believes it has fetched and left on the server."""
        lines = (self.store / "popstate.dat").read_text().splitlines()
        return {line.split(" ")[1] for line in lines if line.startswith("k ")}

    def spelled(self, stored: bytes) -> bytes:
        own = _OWN_HEADER.match(stored)
        assert own is not None, stored[:200]
        return stored[own.end() :].replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")

    def files(self) -> list[Path]:
        inbox = self.store / "Inbox"
        return sorted([*inbox.glob("cur/*"), *inbox.glob("new/*")])


def _prefs(verb: str, prefs: Mapping[str, object]) -> str:
    """A file of preferences, as JavaScript."""
    return "".join(f"{verb}({json.dumps(k)}, {json.dumps(v)});\n" for k, v in prefs.items())
