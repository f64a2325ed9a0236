"""Memory: a message many times larger than what the proxy may grow by, both ways."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.certificates import Certificates
from tests.e2e.devices import Login
from tests.e2e.endless_upstream import BigMessage, serving
from tests.e2e.poplib_device import logged_in
from tests.e2e.proxy import ProxyProcess

pytestmark = pytest.mark.e2e

BLOCKS = 850
"""Some 260 MB. The memory it takes does not depend on it: 1 GB was measured alike."""
MAY_GROW = 8 * 1024
"""KiB: buffers of both connections, and what the allocator keeps."""


@pytest.mark.parametrize("security", ["plain", "implicit"])
def test_a_huge_message_passes_without_being_held_in_memory(
    tmp_path: Path, certificates: Certificates, security: str
) -> None:
    message = BigMessage(BLOCKS)
    with serving(message) as port:
        upstream = {"host": "127.0.0.1", "port": port, "tls": "none"}
        account = {"name": "alice", "password": "secret", "upstream": upstream}
        sync = {"interval": "1h", "max_age": "1h"}
        proxy = ProxyProcess(tmp_path / "proxy", certificates, {"sync": sync}, [account])
        proxy.start()
        try:
            before = proxy.peak_memory()
            assert proxy.cli_json("account", "sync", "alice")["octets"] in (0, message.octets)
            endpoint = proxy.endpoint("implicit" if security == "implicit" else "plain")
            digest = hashlib.sha256()
            with logged_in(endpoint, Login("alice+laptop", "secret")) as session:
                assert session.sizes() == {1: message.octets}
                for line in session.stream("RETR 1"):
                    digest.update(line)
                session.quit()
            assert digest.hexdigest() == message.digest()
            assert proxy.peak_memory() - before < MAY_GROW
        finally:
            proxy.kill()
