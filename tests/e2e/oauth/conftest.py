"""What tests of OAuth share: one authorization server a session, one Dovecot that asks it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.certificates import Certificates
from tests.e2e.dovecot import DovecotUnusable
from tests.e2e.npm import CannotInstall
from tests.e2e.oauth.mail_server import TokenDovecot
from tests.e2e.oauth.server import OAuthServer
from tests.needs import cannot


@pytest.fixture(scope="session")
def oidc_provider(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the npm package is installed, if it can be."""
    folder = tmp_path_factory.mktemp("oidc-provider")
    try:
        OAuthServer.install(folder)
    except CannotInstall as reason:
        cannot(str(reason))
    return folder


@pytest.fixture(scope="session")
def oauth_server(oidc_provider: Path) -> Iterator[OAuthServer]:
    with OAuthServer(oidc_provider) as server:
        yield server


@pytest.fixture(scope="session")
def token_dovecot(certificates: Certificates, oauth_server: OAuthServer) -> Iterator[TokenDovecot]:
    try:
        server = TokenDovecot(certificates, oauth_server)
    except DovecotUnusable as error:
        cannot(str(error))
        raise
    with server:
        yield server
