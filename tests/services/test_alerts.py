"""Mail to the operator: what, when, how often, and what a server that is away changes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path

import pytest

from proxy.domain.errors import MailNotSent, StoreUnavailable
from proxy.domain.facts import AlertFailed, AlertSent, SyncFailed, SyncFinished
from proxy.domain.policy import DAY, HOUR, MINUTE, AlertsPolicy, MailAddress
from proxy.domain.survey import Space
from proxy.domain.trouble import TroubleKind
from proxy.services.alerts import FLUSH, Alerts
from tests.services.house import START, House, declared, house, policy_for

TO = (MailAddress("ops@example.com"),)


class Post:
    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.away = False

    async def send(self, policy: AlertsPolicy, mail: bytes) -> None:
        if self.away:
            raise MailNotSent("no connection")
        self.mails.append(message_from_bytes(mail, policy=default))

    @property
    def subjects(self) -> list[str]:
        return [mail["Subject"].removeprefix("[pop3-sync-proxy] ") for mail in self.mails]

    def text(self, number: int = -1) -> str:
        content = self.mails[number].get_content()
        assert isinstance(content, str)
        return content.replace("\r\n", "\n")


class Desk:
    def __init__(self, home: House) -> None:
        self.home = home
        self.post = Post()
        self.policy = AlertsPolicy(to=TO, host="mail.test", max_per_hour=3)
        self.alerts = self.fresh()

    def fresh(self) -> Alerts:
        """As after a restart."""
        home = self.home
        return Alerts(
            home.store,
            home.clock,
            home.facts,
            home.directory,
            self.policy,
            lambda: Space(50 * 1024**3, 100 * 1024**3),
            self.post,
        )

    def follow(self, policy: AlertsPolicy) -> None:
        self.policy = policy
        self.alerts.follow(policy)

    async def begins(self, name: str = "alice", kind: TroubleKind = "no_sync") -> None:
        account = await self.home.store.ensure_account(name, declared=True, at=START)
        await self.home.store.add_trouble(
            account.id,
            kind,
            subject=f"{kind} of {name}",
            body=f"What to do for {name}.\n",
            at=self.home.clock.time,
        )

    async def all_end(self) -> None:
        for trouble in await self.home.store.troubles():
            if trouble.over_at is None and trouble.kind != "digest":
                await self.home.store.end_trouble(trouble, at=self.home.clock.time)

    async def later(self, seconds: float = 1.0) -> None:
        self.home.clock.time += seconds
        await self.alerts.round()


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    policy = policy_for(1)
    async with house(tmp_path, policy, declared(policy), pass_through=False) as home:
        yield Desk(home)


async def test_a_trouble_is_told_once_and_so_is_its_end(desk: Desk) -> None:
    await desk.begins()
    for _ in range(3):
        await desk.later()
    await desk.all_end()
    for _ in range(3):
        await desk.later()
    assert desk.post.subjects == ["no_sync of alice", "Over: no_sync of alice"]
    assert "What to do for alice." in desk.post.text(0)
    assert desk.home.facts.of(AlertSent) == [AlertSent(1), AlertSent(1)]


async def test_the_mail_has_the_headers_of_a_program_s_mail(desk: Desk) -> None:
    desk.follow(replace(desk.policy, sender="proxy@example.com"))
    await desk.begins()
    await desk.later()
    (mail,) = desk.post.mails
    assert mail["From"] == "pop3-sync-proxy <proxy@example.com>"
    assert mail["To"] == "ops@example.com"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["X-POP3-Sync-Proxy"] == "alert"
    assert mail["Message-ID"].endswith("@example.com>")
    assert mail["Date"].datetime.timestamp() == START + 1


async def test_nobody_to_tell_means_no_mail(desk: Desk) -> None:
    desk.follow(replace(desk.policy, to=()))
    await desk.begins()
    await desk.later()
    assert desk.post.mails == []
    desk.follow(replace(desk.policy, to=TO))
    await desk.later()
    assert desk.post.subjects == ["no_sync of alice"]


async def test_a_restart_tells_nothing_twice(desk: Desk) -> None:
    await desk.begins()
    await desk.later()
    desk.alerts = desk.fresh()
    await desk.later()
    assert len(desk.post.mails) == 1


async def test_troubles_that_come_together_are_one_mail(desk: Desk) -> None:
    for name in ("a", "b", "c"):
        await desk.begins(name)
    await desk.later()
    assert desk.post.subjects == ["3 troubles: 3 new"]
    assert all(f"What to do for {name}." in desk.post.text() for name in ("a", "b", "c"))


async def test_what_the_limit_holds_back_comes_in_one_mail_an_hour_later(desk: Desk) -> None:
    for number in range(6):
        await desk.begins(f"user{number}")
        await desk.later()
    assert len(desk.post.mails) == 3
    desk.alerts = desk.fresh()
    await desk.later(HOUR - 10)
    assert len(desk.post.mails) == 3
    await desk.later(10)
    assert desk.post.subjects[3:] == ["3 troubles: 3 new"]


async def test_a_server_that_is_away_is_tried_less_and_less_often(desk: Desk) -> None:
    desk.post.away = True
    await desk.begins()
    await desk.later()
    await desk.later(MINUTE - 1)
    assert desk.home.facts.of(AlertFailed) == [AlertFailed("no connection", 60.0)]
    for _ in range(10):
        await desk.later(HOUR)
    delays = [fact.retry_in for fact in desk.home.facts.of(AlertFailed)]
    assert delays[:3] == [60.0, 120.0, 240.0]
    assert max(delays) == HOUR
    desk.post.away = False
    await desk.later(HOUR)
    assert desk.post.subjects == ["no_sync of alice"]


async def test_a_clock_that_is_set_back_holds_up_no_alert(desk: Desk) -> None:
    desk.post.away = True
    await desk.begins()
    await desk.later()
    desk.post.away = False
    desk.home.clock.wrong_by = -365 * DAY
    await desk.later(MINUTE)
    assert desk.post.subjects == ["no_sync of alice"]
    desk.follow(replace(desk.policy, digest="daily"))
    await desk.later()
    desk.home.clock.wrong_by = -730 * DAY
    await desk.later(DAY)
    assert len(desk.post.subjects) == 2


async def test_what_a_server_that_was_away_did_not_take_outlives_a_restart(desk: Desk) -> None:
    desk.post.away = True
    await desk.begins()
    await desk.later()
    desk.alerts = desk.fresh()
    desk.post.away = False
    await desk.later()
    assert desk.post.subjects == ["no_sync of alice"]


async def test_a_store_that_cannot_take_down_what_was_sent_does_not_let_it_be_sent_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = False

    def breaking(verb: str) -> None:
        works = getattr(desk.home.store, verb)

        async def work(*arguments: object, **named: object) -> None:
            if broken:
                raise StoreUnavailable("disk full")
            await works(*arguments, **named)

        monkeypatch.setattr(desk.home.store, verb, work)

    desk.follow(replace(desk.policy, digest="daily"))
    await desk.later()
    await desk.begins()
    for verb, wait in (("note_alerted", 0.0), ("end_trouble", DAY)):
        breaking(verb)
        broken = True
        desk.home.clock.time += wait
        for _ in range(5):
            with pytest.raises(StoreUnavailable):
                await desk.later()
        broken = False
        await desk.later()
    assert desk.post.subjects == ["no_sync of alice", "0 messages, 1 trouble"]


async def test_a_trouble_that_came_and_went_meanwhile_is_one_mail(desk: Desk) -> None:
    desk.post.away = True
    await desk.begins()
    await desk.later()
    await desk.all_end()
    desk.post.away = False
    await desk.later(HOUR)
    await desk.later()
    assert desk.post.subjects == ["Over: no_sync of alice"]


async def test_what_was_over_long_ago_is_not_told(desk: Desk) -> None:
    await desk.begins()
    await desk.all_end()
    await desk.later(DAY + 1)
    assert desk.post.mails == []


async def test_changed_uidls_have_no_recovery(desk: Desk) -> None:
    await desk.begins(kind="uidls_changed")
    await desk.later()
    await desk.all_end()
    await desk.later()
    assert len(desk.post.mails) == 1


async def test_what_devices_are_told_of_a_full_disk_is_no_mail(desk: Desk) -> None:
    await desk.begins(kind="store_full")
    await desk.later()
    assert desk.post.mails == []


# --- digests ------------------------------------------------------------------------------------


async def test_a_digest_tells_of_its_day(desk: Desk) -> None:
    desk.follow(replace(desk.policy, digest="daily"))
    await desk.later()
    account = await desk.home.store.ensure_account("alice", declared=True, at=START)
    await desk.home.store.add_device(account.id, "attic", since=None, at=START)
    desk.alerts.observe(SyncFinished("alice", 9, 5, 2**21, 0, 0, 0, 0.1))
    desk.alerts.observe(SyncFailed("alice", "UpstreamBusy", "later", 60.0))
    await desk.begins()
    await desk.later(DAY - 2)
    assert desk.post.subjects == ["no_sync of alice"]
    await desk.later(2)
    assert desk.post.subjects[1:] == ["5 messages, 1 trouble"]
    text = desk.post.text()
    assert "messages fetched   5 (2.0 MiB)" in text
    assert "1 done, 1 failed" in text
    assert "Troubles that are not over:\n\n    no_sync of alice\n" in text
    assert "alice, attic: never seen" in text
    await desk.later(DAY)
    assert "messages fetched   0" in desk.post.text()


async def test_a_digest_s_counts_outlive_a_restart(desk: Desk) -> None:
    desk.follow(replace(desk.policy, digest="weekly"))
    await desk.later()
    desk.alerts.observe(SyncFinished("alice", 9, 5, 100, 0, 0, 0, 0.1))
    await desk.later(FLUSH)
    desk.alerts = desk.fresh()
    desk.alerts.observe(SyncFinished("alice", 9, 2, 100, 0, 0, 0, 0.1))
    await desk.later(7 * DAY)
    assert desk.post.subjects == ["7 messages, 0 troubles"]


async def test_a_digest_that_was_not_taken_comes_later_and_covers_all(desk: Desk) -> None:
    desk.follow(replace(desk.policy, digest="daily"))
    await desk.later()
    desk.alerts.observe(SyncFinished("alice", 9, 5, 100, 0, 0, 0, 0.1))
    desk.post.away = True
    await desk.later(DAY)
    desk.alerts.observe(SyncFinished("alice", 9, 2, 100, 0, 0, 0, 0.1))
    desk.post.away = False
    await desk.later(HOUR)
    assert desk.post.subjects == ["7 messages, 0 troubles"]


async def test_no_digest_any_more_leaves_nothing_behind(desk: Desk) -> None:
    desk.follow(replace(desk.policy, digest="daily"))
    await desk.later()
    desk.follow(replace(desk.policy, digest="off"))
    await desk.later(DAY + 1)
    assert desk.post.mails == []
    assert [t for t in await desk.home.store.troubles() if t.over_at is None] == []
