"""The proxy as a process of its own, started as a user starts it and ended as it likes least."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.certificates import Certificates
from tests.e2e.devices import Endpoint, Security
from tests.e2e.processes import bound
from tests.e2e.waiting import eventually

STOP_TIMEOUT = 30.0
CLI_TIMEOUT = 120.0

Table = Mapping[str, object]


class ProxyProcess:
    """A configuration, a data directory, and the process that runs on them, if one does."""

    def __init__(
        self,
        folder: Path,
        certificates: Certificates,
        sections: Mapping[str, Table],
        accounts: Sequence[Table] = (),
    ) -> None:
        """`sections` and `accounts` are what the file says beside listeners and certificate.

        Without a word on it there are no notices: where mail is counted, none of the proxy's own
        is to come among it.
        """
        folder.mkdir()
        self.folder = folder
        self._ca_file = certificates.ca_file
        self.log_file = folder / "log"
        self._printed = folder / "printed"
        self._process: subprocess.Popen[bytes] | None = None
        self.config = folder / "proxy.toml"
        fixed: dict[str, Table] = {
            "pop3": {
                "listen": ["127.0.0.1:0"],
                "listen_tls": ["127.0.0.1:0"],
                "certificate": str(certificates.certificate),
                "private_key": str(certificates.private_key),
            },
            "http": {"listen": "127.0.0.1:0"},
            "alerts": {"notices": False},
        }
        names = [*fixed, *(name for name in sections if name not in fixed)]
        tables = {name: {**fixed.get(name, {}), **sections.get(name, {})} for name in names}
        self.config.write_text(_toml(tables, accounts))
        self.environment: dict[str, str] = {}
        """Beside ours, at the next start."""
        self.addresses: dict[str, list[str]] = {}
        """As the line `ready` says: "pop3", "pop3s" and "http" → host:port."""

    # --- the process ----------------------------------------------------------------------------

    def start(self) -> None:
        """Start, and wait until every listener is open.

        Raises:
            AssertionError: it ended or said nothing; with its log.
        """
        assert self._process is None
        with self._printed.open("wb") as printed, self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                bound([sys.executable, "-m", "proxy", "serve", "--config", str(self.config)]),
                cwd=self.folder,
                env={**_environment(), **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=log,
            )
        eventually(self._is_ready, what="the proxy to be ready", otherwise=self.log)

    def _is_ready(self) -> bool:
        assert self._process is not None
        ready = [line for line in self._lines() if line.startswith("ready ")]
        if not ready:
            assert self._process.poll() is None, f"the proxy ended:\n{self.log()}"
            return False
        assert len(ready) == 1
        self.addresses = {}
        for pair in ready[0].split()[1:]:
            key, _, address = pair.partition("=")
            self.addresses.setdefault(key, []).append(address)
        return True

    def _lines(self) -> list[str]:
        """What it printed, complete lines alone."""
        return self._printed.read_text().split("\n")[:-1]

    def stop(self) -> None:
        """SIGTERM. It must end with code 0."""
        if self._process is not None:
            self._process.terminate()
            code = self._reap()
            assert code == 0, f"the proxy ended with {code}:\n{self.log()}"

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.kill_now()
        if self._process is not None:
            self._reap()

    def kill_now(self) -> None:
        """SIGKILL without waiting; from any thread. `kill` must follow."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)

    def _reap(self) -> int:
        assert self._process is not None
        try:
            return self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise AssertionError(f"the proxy did not end:\n{self.log()}") from None
        finally:
            self._process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def send(self, number: signal.Signals) -> None:
        """A signal that does not end it, or not at once."""
        assert self._process is not None
        self._process.send_signal(number)

    def peak_memory(self) -> int:
        """The most it has had resident since its start, in KiB."""
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0])

    def may_open(self) -> int:
        """Files, connections among them."""
        assert self._process is not None
        return resource.prlimit(self._process.pid, resource.RLIMIT_NOFILE)[0]

    def open_files(self) -> int:
        """How many it has open, connections among them."""
        assert self._process is not None
        return len(list(Path(f"/proc/{self._process.pid}/fd").iterdir()))

    def limit_files(self, octets: int = resource.RLIM_INFINITY) -> None:
        """Let it write no file beyond this size, as on a disk that is full."""
        assert self._process is not None
        _, hard = resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, (octets, hard))

    def log(self) -> str:
        """The end of what it logged, over all its starts."""
        return self.log_file.read_text(errors="replace")[-20_000:] if self.log_file.exists() else ""

    # --- ways in --------------------------------------------------------------------------------

    def endpoint(self, security: Security = "plain") -> Endpoint:
        """Where a mail program finds it at present; ports change with every start."""
        return self._at("pop3", security)

    def smtp_endpoint(self, security: Security = "plain") -> Endpoint:
        """The same for handing in mail, where [smtp] listens."""
        return self._at("smtp", security)

    def _at(self, protocol: str, security: Security) -> Endpoint:
        address = self.addresses[protocol + "s" * (security == "implicit")][0]
        return Endpoint("localhost", int(address.rpartition(":")[2]), security, self._ca_file)

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command on this configuration, whether the proxy runs or not."""
        return subprocess.run(
            [sys.executable, "-m", "proxy", *arguments, "--config", str(self.config)],
            cwd=self.folder,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=CLI_TIMEOUT,
            check=False,
        )

    def cli_json(self, *arguments: str) -> Any:
        """The same with --json; it must succeed."""
        done = self.cli(*arguments, "--json")
        assert done.returncode == 0, f"{arguments}: {done.stderr}\n{self.log()}"
        return json.loads(done.stdout)


def _environment() -> dict[str, str]:
    """Ours without what would change the proxy's configuration."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("POP3_SYNC_")}
    return {**kept, "PYTHONUNBUFFERED": "1"}


def _toml(tables: Mapping[str, Table], accounts: Sequence[Table]) -> str:
    lines = ['data_dir = "data"']
    for name, table in tables.items():
        lines += ["", f"[{name}]", *_pairs(table)]
    for account in accounts:
        lines += ["", "[[account]]", *_pairs(account)]
    return "\n".join(lines) + "\n"


def _pairs(table: Table) -> list[str]:
    return [f"{key} = {_value(value)}" for key, value in table.items()]


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(_pairs(value)) + " }"
    # JSON's text, numbers, booleans and lists are TOML's too.
    return json.dumps(value)
