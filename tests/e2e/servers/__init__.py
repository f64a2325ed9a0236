"""Real POP3 servers as upstreams."""

from __future__ import annotations

from tests.e2e.servers.courier import Courier
from tests.e2e.servers.cyrus import Cyrus
from tests.e2e.servers.mailutils import Mailutils
from tests.e2e.servers.popa3d import Popa3d
from tests.e2e.servers.server import Server
from tests.e2e.servers.solid_pop3d import SolidPop3d

OTHERS: tuple[type[Server], ...] = (Courier, Cyrus, Mailutils, Popa3d, SolidPop3d)
"""All but Dovecot."""
