"""docs/clients.md: what stands there for programs with configuration files works as it stands."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from email import message_from_bytes
from pathlib import Path

import pytest

from tests.e2e.clients import Fetchmail, Getmail, Mpop, Program
from tests.e2e.more_clients import Mutt
from tests.e2e.rig import Rig, login, one_each, small_mails
from tests.needs import need

pytestmark = pytest.mark.e2e

DOCUMENT = Path(__file__).parents[2] / "docs" / "clients.md"
TEXT = DOCUMENT.read_text()


def snippet(heading: str) -> str:
    """The first fenced block below a heading."""
    section = TEXT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    found = re.search(r"^```\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    assert found, f"nothing fenced below {heading}"
    return found[1]


def entered(program: Program, heading: str, *maildir: str) -> str:
    """The snippet with the test's values for those of the document, each of which stands once."""
    values = {
        "192.168.1.5": program.endpoint.host,
        "1995": str(program.endpoint.port),
        "alice@example.com+laptop": program.login.user,
        "PASSWORD": program.login.password,
        "/home/alice/ca.pem": str(program.endpoint.ca_file),
        **dict.fromkeys(maildir, str(program.store)),
    }
    text = snippet(heading)
    for shown, real in values.items():
        assert text.count(shown) == 1, f"{shown} in the block of {heading}"
        text = text.replace(shown, real)
    return text.replace("/home/alice", str(program.folder))


def make_maildir(program: Program) -> None:
    for name in ("new", "cur", "tmp"):
        (program.store / name).mkdir()


class DocumentedFetchmail(Fetchmail):
    """What delivers mail is the reader's own, so the tests' is put in for procmail."""

    def set_up(self) -> None:
        text = entered(self, "fetchmail")
        assert text.count("/usr/bin/procmail") == 1
        agent = str(self.delivery_agent())
        self._config = self.write(".fetchmailrc", text.replace("/usr/bin/procmail", agent))


class DocumentedGetmail(Getmail):
    """Run by root it delivers to no Maildir; so it is run by nobody then."""

    def set_up(self) -> None:
        make_maildir(self)
        self.write("getmailrc", entered(self, "getmail", "/home/alice/Mail"))
        if os.getuid() == 0:
            for path in (self.folder, *self.folder.rglob("*")):
                shutil.chown(path, "nobody", "nogroup")

    def command(self) -> list[str]:
        if os.getuid() != 0:
            return super().command()
        become = [need("setpriv"), "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
        return [*become, *super().command()]

    def files(self) -> list[Path]:
        return sorted((self.store / "new").iterdir())


class DocumentedMpop(Mpop):
    def set_up(self) -> None:
        make_maildir(self)
        self._config = self.write("mpoprc", entered(self, "mpop", "/home/alice/Mail"))


class DocumentedMutt(Mutt):
    heading = "mutt and NeoMutt"

    def set_up(self) -> None:
        make_maildir(self)
        self._config = self.write("muttrc", entered(self, self.heading, "/home/alice/Mail"))


class DocumentedNeoMutt(DocumentedMutt):
    name = "neomutt"


PROGRAMS: tuple[type[Program], ...] = (
    DocumentedFetchmail,
    DocumentedGetmail,
    DocumentedMpop,
    DocumentedMutt,
    DocumentedNeoMutt,
)


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder that everybody can look into, as root's getmail runs as somebody else."""
    folder = Path(tempfile.mkdtemp(prefix="home"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_what_the_document_says_fetches_each_mail_once_on_each_device(
    rig: Rig, home: Path, program: type[Program]
) -> None:
    need(program.name)
    user = rig.dovecot.add_user()
    mails = small_mails(3, "documented")
    rig.dovecot.deliver(user, *mails)
    own = {"certificate": "", "private_key": ""}
    proxy = rig.proxy(user, sections={"pop3": own})
    trusted = home / "ca.pem"
    trusted.write_text(proxy.cli("certificate", "--pem").stdout)
    endpoint = replace(proxy.endpoint("implicit"), ca_file=trusted)
    devices = [program(home / name, endpoint, login(user, name)) for name in ("laptop", "desktop")]
    for device in devices:
        device.poll()
        assert sorted(map(subject, device.mails())) == sorted(map(subject, mails))
    later = small_mails(1, "later")
    rig.dovecot.deliver(user, *later)
    for device in devices:
        device.poll()
        assert len(device.mails()) == len(mails) + 1
    assert rig.tap.retrs() == one_each([*mails, *later])
    assert rig.dovecot.count(user) == len(mails) + 1


def subject(mail: bytes) -> str:
    return str(message_from_bytes(mail)["Subject"])


def test_every_link_leads_somewhere() -> None:
    """To a heading of the page, as GitHub names them."""
    headings = re.findall(r"^## (.+)$", TEXT, re.MULTILINE)
    names = {re.sub(r"[^a-z0-9 -]", "", text.lower()).replace(" ", "-") for text in headings}
    links = set(re.findall(r"\]\(#([^)]+)\)", TEXT))
    assert links
    assert links <= names
