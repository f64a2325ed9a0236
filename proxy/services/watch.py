"""What looks after troubles: who notices them, and who tells the operator."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from proxy.domain.directory import Directory
from proxy.domain.facts import Fact
from proxy.domain.policy import AlertsPolicy
from proxy.domain.survey import Space
from proxy.interfaces.observer import Observer
from proxy.interfaces.postman import Postman
from proxy.interfaces.store import Store
from proxy.interfaces.world import World
from proxy.services.alerts import Alerts
from proxy.services.troubles import Troubles


class Watch:
    """Also an observer: it has to hear of every fact."""

    def __init__(
        self,
        store: Store,
        world: World,
        observer: Observer,
        directory: Directory,
        policy: AlertsPolicy,
        space: Callable[[], Space | None],
        postman: Postman,
    ) -> None:
        """`space`: of the file system that the store is on."""
        self._alerts = Alerts(store, world.clock, observer, directory, policy, space, postman)
        self._troubles = Troubles(
            store, world, observer, directory, policy, space, self._alerts.wake
        )

    def observe(self, fact: Fact) -> None:
        self._troubles.observe(fact)
        self._alerts.observe(fact)

    def look(self) -> None:
        """Something may have changed that is no fact."""
        self._troubles.wake()

    def follow(self, policy: AlertsPolicy) -> None:
        self._troubles.policy = policy
        self._alerts.follow(policy)

    async def work(self) -> None:
        """Make rounds until cancelled."""
        async with asyncio.TaskGroup() as both:
            both.create_task(self._troubles.work())
            both.create_task(self._alerts.work())
