"""What listings have left open, kept in the store, so that a restart believes nothing sooner."""

from __future__ import annotations

from collections.abc import Callable

from proxy.domain.doubt import COMES_BACK_WITHIN, MANY, Spell, spell_after
from proxy.interfaces.store import Store


class Doubts:
    """Of one sync; `load` first."""

    def __init__(self, store: Store, account_id: int, ran: Callable[[], float]) -> None:
        """`ran` tells the running time."""
        self._store = store
        self._account_id = account_id
        self._ran = ran
        self._spell: Spell | None = None
        self.began = False
        """Whether it was this listing that began the spell."""
        self.left_at: float | None = None
        """When the missing messages left, in running time, if they may come back under any id."""

    async def load(self) -> None:
        self._spell = await self._store.spell(self._account_id)

    @property
    def doubted(self) -> bool:
        """Whether the last listing is not believed; nothing is deleted on the strength of it."""
        return self._spell is not None

    @property
    def left_since(self) -> float:
        """What left at once later than this may come back under any id."""
        return self._ran() - COMES_BACK_WITHIN

    async def weigh(self, missing: int, *, odd: bool, by_retr: bool, for_good: bool) -> None:
        """Decide on what a listing lacks; `odd` as for `spell_after`.

        `by_retr`: our own RETR seems to have hidden them; `for_good`: as it did before.
        """
        before, ran = self._spell, self._ran()
        at_once = odd or before is not None or missing >= MANY
        self.left_at = ran if at_once and not for_good else None
        self._spell = None if by_retr else spell_after(before, missing, odd=odd, ran=ran)
        self.began = before is None and self._spell is not None
        if self._spell != before:
            await self._store.note_spell(self._account_id, self._spell)
