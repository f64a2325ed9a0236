"""`upstream.provider`: the keys of [upstream] and [smtp] that a known provider decides."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from proxy.domain.provider import Provider
from proxy.domain.provider_table_smtp import OUTGOING
from proxy.domain.providers import PROVIDERS


def expand(table: Any) -> None:
    """Give the tables "upstream" and "smtp" in `table` the provider's values for the keys that
    they do not have themselves.

    What is no such table, or names no known provider, is left to whoever reads it.
    """
    upstream = table.get("upstream")
    name = upstream.get("provider") if isinstance(upstream, dict) else None
    provider = PROVIDERS.get(name) if isinstance(name, str) else None
    if provider is None:
        return
    table["upstream"] = {**_upstream(provider), **upstream}
    smtp, outgoing = table.get("smtp", {}), OUTGOING.get(provider.name)
    # A host that is given is another server.
    if outgoing is not None and isinstance(smtp, dict) and "host" not in smtp:
        table["smtp"] = {**asdict(outgoing), **smtp}


def _upstream(provider: Provider) -> dict[str, Any]:
    values: dict[str, Any] = {
        "host": provider.host,
        "port": provider.port,
        "tls": "implicit",
        "login_interval": f"{provider.login_interval:.0f}s",
    }
    if provider.oauth is not None:
        values |= {
            "oauth_authorization_url": provider.oauth.authorization_url,
            "oauth_token_url": provider.oauth.token_url,
            "oauth_device_url": provider.oauth.device_url,
            "oauth_scope": provider.oauth.scope,
        }
    return values
