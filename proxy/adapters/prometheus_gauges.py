"""States as Prometheus gauges: made anew for every page, so that what is gone has no series."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from proxy.adapters.prometheus_labels import OTHER, PREFIX, AccountLabels
from proxy.domain.survey import AccountState, DeviceState, Load, Space

MAX_DEVICES = 3000
"""Devices with series of their own; the others have none."""

_OF_ACCOUNTS: tuple[tuple[str, str, Callable[[AccountState], float | None]], ...] = (
    ("store_messages", "Messages in the store.", attrgetter("messages")),
    ("store_bytes", "Size of the messages in the store.", attrgetter("octets")),
    (
        "upstream_messages",
        "Messages that upstream held at the last successful sync.",
        attrgetter("upstream_messages"),
    ),
    (
        "last_sync_success_timestamp_seconds",
        "When the last successful sync ended; 0: never.",
        attrgetter("synced_at"),
    ),
    (
        "sync_interval_seconds",
        "Time between two syncs in the background, for declared accounts.",
        attrgetter("sync_interval"),
    ),
    ("consent_needed", "1: a person has to authorize the account.", attrgetter("consent_needed")),
    (
        "upstream_login_refused",
        "1: upstream takes the password no more, as far as the last sync tells.",
        attrgetter("login_refused"),
    ),
)

_OF_DEVICES: tuple[tuple[str, str, Callable[[DeviceState], float | None]], ...] = (
    ("backlog_messages", "Messages that the device has still to get.", attrgetter("backlog")),
    (
        "device_last_seen_timestamp_seconds",
        "When the device last logged in.",
        attrgetter("seen_at"),
    ),
)


class Gauges(Collector):
    def __init__(self, labels: AccountLabels) -> None:
        self._labels = labels
        self.load: Callable[[], Load] = lambda: Load(0, 0, 0, 0, 0)
        self.space: Callable[[], Space | None] = lambda: None
        """Where the store is; None: not known."""
        self._accounts: list[tuple[str, AccountState]] = []
        """Each with its label."""
        self.certificate_end: float | None = None

    def show(self, accounts: Iterable[AccountState]) -> list[str]:
        """From now on, this is the state; returns the labels of accounts that have series."""
        labelled = {self._labels.of(account.name): account for account in accounts}
        labelled.pop(OTHER, None)
        self._accounts = list(labelled.items())
        return list(labelled)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        yield from self._of_load()
        for name, help, value_of in _OF_ACCOUNTS:
            family = _family(name, help, "account")
            for label, account in self._accounts:
                _add(family, [label], value_of(account))
            yield family
        devices = [
            ([label, device.name], device)
            for label, account in self._accounts
            for device in account.devices
        ][:MAX_DEVICES]
        for name, help, of_device in _OF_DEVICES:
            family = _family(name, help, "account", "device")
            for labels, device in devices:
                _add(family, labels, of_device(device))
            yield family
        yield from self._of_machine()

    def _of_load(self) -> Iterator[GaugeMetricFamily]:
        load = self.load()
        sessions = _family("sessions_open", "Open device sessions.", "state")
        sessions.add_metric(["logged_in"], load.sessions_logged_in)
        sessions.add_metric(["stranger"], load.sessions_strangers)
        yield sessions
        yield _single(
            "upstream_sessions_open", "Sessions with upstream servers.", load.upstream_sessions
        )
        yield _single(
            "syncs_waiting",
            "Syncs that wait for their turn with a host (sync.max_sessions_per_host).",
            load.syncs_waiting,
        )
        yield _single(
            "store_commits_waiting",
            "Sessions whose QUIT waits for the disk.",
            load.commits_waiting,
        )

    def _of_machine(self) -> Iterator[GaugeMetricFamily]:
        space = self.space()
        yield _single(
            "store_free_bytes",
            "Free space on the file system of data_dir.",
            space.free if space else None,
        )
        yield _single(
            "store_reserve_bytes",
            "Space of that which is not for mail (store.reserve).",
            space.reserve if space else None,
        )
        yield _single(
            "store_size_bytes",
            "Size of the file system of data_dir.",
            space.size if space else None,
        )
        yield _single(
            "certificate_not_after_timestamp_seconds",
            "When our certificate expires.",
            self.certificate_end,
        )


def _family(name: str, help: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{PREFIX}_{name}", help, labels=labels)


def _single(name: str, help: str, value: float | None) -> GaugeMetricFamily:
    family = _family(name, help)
    _add(family, [], value)
    return family


def _add(family: GaugeMetricFamily, labels: list[str], value: float | None) -> None:
    """None: not known, so there is no series."""
    if value is not None:
        family.add_metric(labels, value)
