"""The state of the whole, in numbers: what is looked at from time to time, since it is no event."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DeviceState:
    name: str
    backlog: int
    """Messages it has still to get."""
    seen_at: float | None
    """Unix time; None: never."""


@dataclass(frozen=True, slots=True)
class AccountState:
    """An account that may be used: a declared one, or any where pass-through accounts are taken."""

    name: str
    messages: int
    octets: int
    """Both of what the store has."""
    upstream_messages: int | None
    """None: it has never been synced."""
    synced_at: float
    """Unix time of the last successful sync; 0: there was none."""
    sync_interval: float | None
    """Seconds between two syncs in the background; None: it is synced at logins alone."""
    consent_needed: bool
    login_refused: bool
    devices: tuple[DeviceState, ...]


@dataclass(frozen=True, slots=True)
class Space:
    """Of a file system, in octets."""

    free: int
    """For who is not root."""
    size: int
    files: int | None = None
    """Files that can still be made; None: no such limit."""
    reserve: int = 0
    """So much of it is not for mail."""


@dataclass(frozen=True, slots=True)
class Load:
    """What is going on in this moment, in memory."""

    sessions_logged_in: int
    sessions_strangers: int
    upstream_sessions: int
    syncs_waiting: int
    commits_waiting: int
