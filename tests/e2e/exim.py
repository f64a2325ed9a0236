"""An Exim of our own: after a login it takes mail for everybody, and keeps it for tests to read."""

from __future__ import annotations

import hashlib
import os
import pwd
import re
import shutil
import socket
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.certificates import Certificates
from tests.e2e.dovecot import User, free_ports
from tests.e2e.processes import bound
from tests.e2e.waiting import eventually

BINARY = "/usr/sbin/exim4"
OWNER = "Debian-exim"

SIZE_LIMIT = 25 * 1024 * 1024
"""Octets of a mail."""

REFUSED = "refused@example.org"
LATER = "later@example.org"
"""Recipients that are refused for ever, and for now."""

_CONFIG = r"""
primary_hostname = mx.test
exim_user = {owner}
exim_group = {owner}
deliver_drop_privilege
spool_directory = {folder}/spool
log_file_path = {folder}/%slog
pid_file_path = {folder}/pid
keep_environment =
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port} : {tls_port}
tls_on_connect_ports = {tls_port}
tls_advertise_hosts = *
tls_certificate = {folder}/certificate
tls_privatekey = {folder}/private_key
tls_try_verify_hosts = *
tls_verify_certificates = {folder}/clients
smtputf8_advertise_hosts = *
dsn_advertise_hosts = *
message_size_limit = {size_limit}
smtp_accept_max = 0
host_lookup =
rfc1413_query_timeout = 0s
log_selector = +smtp_connection +smtp_protocol_error +received_recipients
acl_smtp_mail = acl_mail
acl_smtp_rcpt = acl_rcpt
acl_smtp_data = acl_data

begin acl

acl_mail:
  require authenticated = *
          message = 530 5.7.0 log in first
  accept

acl_rcpt:
  deny    local_parts = refused
          message = 550 5.1.1 nobody of that name
  defer   local_parts = later
          message = 451 4.2.1 that mailbox is busy
  accept

acl_data:
  deny    condition = ${{if eq{{$h_X-Test-Refuse:}}{{550}}}}
          message = 550 5.6.0 not such a mail
  defer   condition = ${{if eq{{$h_X-Test-Refuse:}}{{451}}}}
          message = 451 4.6.0 not now
  accept

begin authenticators

plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${{if eq{{$auth3}}{{${{lookup{{$auth2}}lsearch{{{folder}/passwd}}}}}}}}
  server_set_id = $auth2

login:
  driver = plaintext
  public_name = LOGIN
  server_prompts = Username:: : Password::
  server_condition = ${{if eq{{$auth2}}{{${{lookup{{$auth1}}lsearch{{{folder}/passwd}}}}}}}}
  server_set_id = $auth1

cram:
  driver = cram_md5
  public_name = CRAM-MD5
  server_secret = ${{lookup{{$auth1}}lsearch{{{folder}/passwd}}{{$value}}fail}}
  server_set_id = $auth1

token:
  driver = plaintext
  public_name = XOAUTH2
  server_condition = ${{if eq{{good}} \
      {{${{lookup{{${{sha256:$auth1}}}}lsearch{{{folder}/tokens}}}}}}}}
  server_set_id = ${{sg{{$auth1}}{{\N^user=([^\x01]*)\x01.*$\N}}{{\$1}}}}

certificate:
  driver = external
  public_name = EXTERNAL
  server_advertise_condition = ${{if eq{{$tls_in_certificate_verified}}{{1}}}}
  server_param2 = ${{certextract{{subject,CN}}{{$tls_in_peercert}}}}
  server_condition = ${{if eq{{$auth1}}{{$auth2}}}}
  server_set_id = $auth1

begin routers

everybody:
  driver = accept
  transport = keep

begin transports

keep:
  driver = appendfile
  directory = {folder}/mail
  maildir_format
  use_crlf
  envelope_to_add
  return_path_add
"""


class EximUnusable(Exception):
    """The tests cannot run this Exim; says why."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """A mail as it was delivered to one recipient."""

    sender: str
    recipient: str
    received: str
    """Exim's own trace header."""
    mail: bytes
    """The octets behind it."""


class Exim:
    """Started by its constructor; `close` it, or use it as a context manager."""

    def __init__(self, certificates: Certificates) -> None:
        """Raises:
        EximUnusable: there is none, or we may not run it.
        """
        if not Path(BINARY).exists():
            raise EximUnusable(f"there is no {BINARY}")
        if os.getuid() != 0:
            raise EximUnusable("only root can run an Exim with a configuration of its own")
        owner = pwd.getpwnam(OWNER)
        self._folder = Path(tempfile.mkdtemp(prefix="exim"))
        self.mail_folder = self._folder / "mail"
        for folder in (self.mail_folder, self._folder / "spool"):
            folder.mkdir()
        self._passwd = self._folder / "passwd"
        self._passwd.touch()
        self._tokens = self._folder / "tokens"
        self._tokens.touch()
        shutil.copy(certificates.certificate, self._folder / "certificate")
        shutil.copy(certificates.private_key, self._folder / "private_key")
        self._clients = self._folder / "clients"
        shutil.copy(certificates.ca_file, self._clients)
        for path in (self._folder, *self._folder.iterdir()):
            os.chown(path, owner.pw_uid, owner.pw_gid)
        self.host = "localhost"
        self.port, self.tls_port = free_ports(2)
        self._config = self._folder / "exim.conf"
        self._config.write_text(
            _CONFIG.format(
                owner=OWNER,
                folder=self._folder,
                port=self.port,
                tls_port=self.tls_port,
                size_limit=SIZE_LIMIT,
            )
        )
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def __enter__(self) -> Exim:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def start(self) -> None:
        with (self._folder / "printed").open("ab") as printed:
            self._process = subprocess.Popen(
                bound([BINARY, "-C", str(self._config), "-bdf"]),
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=printed,
            )
        eventually(self._greets, what="Exim to answer", otherwise=self.log)

    def _greets(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise EximUnusable(f"Exim ended: {self.log()}")
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                return connection.recv(4) == b"220 "
        except OSError:
            return False

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=30)
            self._process = None

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def log(self) -> str:
        files = (self._folder / name for name in ("printed", "mainlog", "paniclog"))
        return "\n".join(file.read_text(errors="replace") for file in files if file.exists())

    def add_user(self, user: User) -> None:
        """Who may send."""
        with self._passwd.open("a") as passwd:
            passwd.write(f"{user.name}: {user.password}\n")

    def add_token(self, user: User, token: str) -> None:
        """What the user may send with by XOAUTH2."""
        said = f"user={user.name}\x01auth=Bearer {token}\x01\x01"
        with self._tokens.open("a") as tokens:
            tokens.write(f"{hashlib.sha256(said.encode()).hexdigest()}: good\n")

    def add_certificate(self, certificate: Path) -> None:
        """One that signs itself; who shows it may send as its common name says."""
        with self._clients.open("ab") as clients:
            clients.write(certificate.read_bytes())
        # It reads them at its start alone.
        self.stop()
        self.start()

    def logins(self) -> list[tuple[str, str]]:
        """Of each mail taken so far: the authenticator, and who it was."""
        log = (self._folder / "mainlog").read_text()
        return re.findall(r" <= .* A=(\w+):(\S+)", log)

    def arrived(self) -> list[Arrived]:
        """All mail delivered so far."""
        return [_parsed(file.read_bytes()) for file in (self.mail_folder / "new").glob("*")]

    def forget(self) -> None:
        """Remove what was delivered."""
        for file in (self.mail_folder / "new").glob("*"):
            file.unlink()

    def sessions(self) -> int:
        """Clients that have begun so far."""
        return (self._folder / "mainlog").read_text().count("TCP/IP connection count")


def _parsed(raw: bytes) -> Arrived:
    found = re.fullmatch(
        rb"Return-path: <(.*?)>\r\nEnvelope-to: (.*?)\r\n(Received: .*?\r\n)(?![ \t])(.*)",
        raw,
        re.S,
    )
    assert found, raw[:1000]
    sender, recipient, received = (found[number].decode() for number in (1, 2, 3))
    return Arrived(sender, recipient, received, found[4])
