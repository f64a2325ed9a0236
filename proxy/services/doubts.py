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
        self._kept: Spell | None = None

    async def load(self) -> None:
        self._spell = self._kept = await self._store.spell(self._account_id)

    @property
    def doubted(self) -> bool:
        """Whether the last listing is not believed; nothing is deleted on the strength of it."""
        return self._spell is not None

    @property
    def left_since(self) -> float:
        """What left at once later than this may come back under any id."""
        return self._store.ran - COMES_BACK_WITHIN

    def judge(self, missing: int, *, odd: bool, by_retr: bool, for_good: bool) -> Judgement:
        """As `domain.doubt.judge`."""
        ran = self._store.ran
        found = judge(self._spell, missing, odd=odd, by_retr=by_retr, for_good=for_good, ran=ran)
        self._spell = found.spell
        return found

    async def keep(self) -> None:
        """Have it on disk, once what followed from it is: a spell that ends twice does no harm, and
        one that ended too soon would begin anew."""
        if self._spell != self._kept:
            await self._store.note_spell(self._account_id, self._spell)
            self._kept = self._spell
