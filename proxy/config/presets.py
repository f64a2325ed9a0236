"""`upstream.provider`: the keys of [upstream] that a known provider decides."""

from __future__ import annotations

from typing import Any

from proxy.domain.providers import PROVIDERS


def expand(table: Any) -> Any:
    """The table with the provider's values for the keys that it does not have itself.

    What is no such table, or names no known provider, is left to whoever reads it.
    """
    name = table.get("provider") if isinstance(table, dict) else None
    provider = PROVIDERS.get(name) if isinstance(name, str) else None
    if provider is None:
        return table
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
    return {**values, **table}
