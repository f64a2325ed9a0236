"""Taking a login name apart: ACCOUNT, or ACCOUNT+DEVICE."""

from __future__ import annotations

from proxy.domain.model import is_valid_device_name


def candidates(login: str, separator: str) -> list[tuple[str, str | None]]:
    """The (account, device) pairs a login name can mean, the likeliest first.

    An account whose whole name matches wins, so the caller takes the first pair whose account it
    knows. For a login nobody knows, the last pair is what it means: split at the last separator
    where what follows can be a device name, and the whole name otherwise.
    """
    whole: tuple[str, str | None] = (login, None)
    account, found, device = login.rpartition(separator)
    if not found or not account or not is_valid_device_name(device):
        return [whole]
    return [whole, (account, device)]
