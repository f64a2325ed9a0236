"""Every query of Grafana's dashboards, put to a Prometheus that scrapes a proxy at work."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.certificates import make_certificates
from tests.e2e.devices import PollFailed
from tests.e2e.dovecot import Dovecot, DovecotUnusable, User
from tests.e2e.poplib_device import PoplibDevice, logged_in
from tests.e2e.proxy import ProxyProcess
from tests.e2e.rig import Rig, small_mails
from tests.e2e.waiting import eventually
from tests.needs import cannot
from tests.ops.dashboards import FALLBACK, Query, fill, load
from tests.ops.prometheus import JOB, BadQuery, Prometheus

pytestmark = pytest.mark.e2e

DASHBOARDS = load()

SURVEYED = 90.0
"""Seconds within which the proxy has counted its store: it does so every half minute."""

VALUES = {
    "job": JOB,
    "instance": ".+",
    "account": ".*",
    "device": ".*",
    # All that the test does happens within.
    "__rate_interval": "5m",
    "__range": "5m",
}


class Stage:
    """A proxy with an account that works, one that does not and one whose mailbox is odd; and its
    Prometheus."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self.user = rig.dovecot.add_user()
        self.odd = rig.dovecot.add_user()
        self.locked_out = User(rig.dovecot.add_user().name, "not its password")
        self.proxy: ProxyProcess = rig.proxy(
            self.user,
            self.odd,
            self.locked_out,
            sections={"sync": {"max_message_size": "16KiB"}, "limits": {"login_delay": "0s"}},
            account={"retention": {"upstream": "delivered"}},
        )
        self.devices: list[PoplibDevice] = [
            rig.device(self.proxy, self.user, "laptop"),
            rig.device(self.proxy, self.user, "phone", security="implicit", delete=True),
        ]
        address = self.proxy.addresses["http"][0]
        self.prometheus = Prometheus(rig.folder / "prometheus", address)

    def round(self, mark: str) -> None:
        """New mail for all, one device's alone, too large a mail, and everybody who fails."""
        deliver, user = self._rig.dovecot.deliver, self.user
        deliver(user, *small_mails(5, mark), *small_mails(1, f"{mark} large", octets=50_000))
        for device in self.devices:
            device.poll()
        deliver(user, *small_mails(2, f"{mark} for one"))
        self.devices[0].poll()
        stranger = self._rig.device(self.proxy, User(user.name, "a guess"), "laptop")
        with pytest.raises(PollFailed):
            stranger.poll()
        assert self.proxy.cli("account", "sync", self.locked_out.name).returncode != 0

    def move(self) -> None:
        """The odd mailbox gets its old mail under new UIDLs, and then loses everything."""
        upstream, mails = self._rig.dovecot, small_mails(5, "moved")
        upstream.deliver(self.odd, *mails)
        self.proxy.cli_json("account", "sync", self.odd.name)
        upstream.remove_all(self.odd)
        upstream.deliver(self.odd, *mails)
        self.proxy.cli_json("account", "sync", self.odd.name)
        upstream.remove_all(self.odd)
        self.proxy.cli_json("account", "sync", self.odd.name)

    def wait_for_scrape(self) -> None:
        """Until Prometheus has everything that has happened so far."""
        before = self.prometheus.numbers("vector(time())")[0]
        eventually(
            lambda: self.prometheus.numbers("timestamp(up)")[0] > before,
            what="another scrape",
        )

    def wait_for_survey(self) -> None:
        """Until the proxy has looked at its store with both devices in it."""
        eventually(
            lambda: len(self.prometheus.numbers("pop3_sync_backlog_messages")) == 2,
            what="a backlog for each device",
            within=SURVEYED,
        )


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    certificates = make_certificates(tmp_path_factory.mktemp("certificates"))
    try:
        dovecot = Dovecot(certificates)
    except DovecotUnusable as error:
        cannot(str(error))
        raise
    with dovecot:
        rig = Rig(tmp_path_factory.mktemp("stage"), certificates, dovecot)
        try:
            made = Stage(rig)
            with made.prometheus:
                made.move()
                # An increase is seen only between two scrapes.
                for number in range(3):
                    made.round(f"round {number}")
                    made.wait_for_scrape()
                made.wait_for_survey()
                with logged_in(made.proxy.endpoint(), made.devices[0].login):
                    yield made
        finally:
            rig.close()


def complaint(prometheus: Prometheus, query: Query) -> str:
    """What is wrong with the answer to a query; "" for nothing."""
    expr = query.filled(VALUES)
    try:
        # With its fallback a query always has an answer, without it only one of the proxy's.
        if prometheus.numbers(expr) and prometheus.numbers(expr.replace(FALLBACK, "")):
            return ""
        reason = "no number"
    except BadQuery as error:
        reason = str(error)
    return f"{query.where}: {reason}\n  {expr}"


def test_every_query_of_every_panel_returns_numbers(stage: Stage) -> None:
    waiting = [query for dashboard in DASHBOARDS for query in dashboard.queries()]
    assert len(waiting) > 50
    complaints: dict[Query, str] = {}

    def all_answered() -> bool:
        for query in list(complaints or waiting):
            complaints[query] = complaint(stage.prometheus, query)
            if not complaints[query]:
                del complaints[query]
        return not complaints

    eventually(
        all_answered,
        what="every query to return a number",
        otherwise=lambda: "\n".join(complaints.values()),
    )


def test_every_metric_of_a_query_exists(stage: Stage) -> None:
    """Also those beside others in one query, where one that is missing may go unnoticed."""
    existing = stage.prometheus.metrics()
    unknown = [
        (query.where, metric)
        for dashboard in DASHBOARDS
        for query in dashboard.queries()
        for metric, _ in query.selectors()
        if metric not in existing
    ]
    assert unknown == []


def test_every_metric_of_the_proxy_is_on_a_dashboard(stage: Stage) -> None:
    shown = {
        metric
        for dashboard in DASHBOARDS
        for query in dashboard.queries()
        for metric, _ in query.selectors()
    }
    own = {name for name in stage.prometheus.metrics() if name.startswith("pop3_sync_")}
    # Of a histogram it is the buckets that are shown.
    parts = {
        re.sub("_bucket$", end, name)
        for name in own
        if name.endswith("_bucket")
        for end in ("_sum", "_count")
    }
    assert own - parts - shown == set()


def test_the_first_row_tells_how_things_stand(stage: Stage) -> None:
    (overview,) = (dashboard for dashboard in DASHBOARDS if dashboard.name == "overview")

    first = [panel for panel in overview.panels() if panel["type"] in ("stat", "gauge")]
    row: dict[str, list[float]] = {}

    def all_shown() -> bool:
        for panel in first:
            expr = fill(panel["targets"][0]["expr"], VALUES)
            row[panel["title"]] = stage.prometheus.numbers(expr)
        return all(row.values())

    eventually(all_shown, what="the first row", otherwise=lambda: f"{row}")
    assert 0 < row.pop("Disk free")[0] < 1
    assert row.pop("Certificate ends in")[0] > 0
    # One login in four; Prometheus extrapolates, so it is about so.
    assert 0.1 < row.pop("Logins refused")[0] < 0.4
    assert row == {
        "Proxies": [1],
        "Accounts failing": [1],
        "Waiting for a person": [1],
        "Damaged mail": [0],
        "Unexpected errors": [0],
    }


def test_every_variable_has_something_to_choose_from(stage: Stage) -> None:
    chosen: dict[str, list[str]] = {}
    for dashboard in DASHBOARDS:
        for name, label, selector in dashboard.choices():
            chosen[name] = stage.prometheus.label_values(label, fill(selector, VALUES))
            assert chosen[name], f"{dashboard.name}: ${name}"
    assert chosen["job"] == [JOB]
    assert sorted(chosen["device"]) == ["laptop", "phone"]
    assert len(chosen["account"]) == 3
