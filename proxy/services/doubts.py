"""What listings have left open, kept in the store, so that a restart believes nothing sooner."""

from __future__ import annotations

from proxy.domain.doubt import COMES_BACK_WITHIN, Judgement, Spell, judge
from proxy.interfaces.store import Store


class Doubts:
    """Of one sync; `load` first."""

    def __init__(self, store: Store, account_id: int) -> None:
        self._store = store
        self._account_id = account_id
        self._spell: Spell | None = None

    async def load(self) -> None:
        self._spell = await self._store.spell(self._account_id)

    @property
    def doubted(self) -> bool:
        """Whether the last listing is not believed; nothing is deleted on the strength of it."""
        return self._spell is not None

    @property
    def left_since(self) -> float:
        """What left at once later than this may come back under any id."""
        return self._store.ran - COMES_BACK_WITHIN

    async def judge(self, missing: int, *, odd: bool, by_retr: bool, for_good: bool) -> Judgement:
        """As `domain.doubt.judge`, and what comes of it is durable."""
        before = self._spell
        ran = self._store.ran
        found = judge(before, missing, odd=odd, by_retr=by_retr, for_good=for_good, ran=ran)
        self._spell = found.spell
        if found.spell != before:
            await self._store.note_spell(self._account_id, found.spell)
        return found
