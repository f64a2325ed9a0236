"""A Dovecot that takes tokens and no passwords, as the large providers do.

For each login it asks the authorization server about the token (RFC 7662) and remembers nothing.
Users sign in by XOAUTH2 and OAUTHBEARER (RFC 7628) alone; CAPA says USER nevertheless, and PASS is
refused.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from tests.certificates import Certificates
from tests.e2e.dovecot import Dovecot
from tests.e2e.oauth.server import MAIL_SERVER, OAuthServer

_SIGN_IN = """\
auth_mechanisms = oauthbearer xoauth2
auth_cache_size = 0
passdb {{
  driver = oauth2
  mechanisms = oauthbearer xoauth2
  args = {file}
}}
"""

_INTROSPECTION = """\
introspection_mode = post
introspection_url = {url}
force_introspection = yes
username_attribute = username
active_attribute = active
active_value = true
scope = mail
openid_configuration_url = {issuer}/.well-known/openid-configuration
timeout_msecs = 5000
"""


class TokenDovecot(Dovecot):
    """A token is good for the mailbox that it names, while the server says it is active."""

    def __init__(self, certificates: Certificates, oauth: OAuthServer) -> None:
        """`oauth` must speak plain http.

        Raises:
            DovecotUnusable: as `Dovecot` does.
        """
        self._oauth = oauth
        super().__init__(certificates)

    def sign_in(self, folder: Path) -> str:
        file = folder / "oauth2.conf"
        scheme, _, rest = self._oauth.introspection_endpoint.partition("://")
        url = f"{scheme}://{quote(MAIL_SERVER.id)}:{quote(MAIL_SERVER.secret)}@{rest}"
        file.write_text(_INTROSPECTION.format(url=url, issuer=self._oauth.issuer))
        return _SIGN_IN.format(file=file)
