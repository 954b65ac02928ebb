"""Open servers of a base, in the order in which they suit a version."""

from collections import defaultdict
from collections.abc import Iterable, Iterator

import numpy as np

from fleet.capacity import HOURS
from fleet.placement.items import Ints, Item
from fleet.placement.servers import ServerDraft


class OpenServers:
    """Servers with their loads and ranks, so that thousands are compared at a time."""

    def __init__(self, drafts: Iterable[ServerDraft] = ()) -> None:
        """Take servers of a base."""
        self.drafts = sorted(drafts, key=lambda draft: draft.name)
        self._at = {draft.name: place for place, draft in enumerate(self.drafts)}
        shape = len(self.drafts), HOURS
        self._tokens: Ints = np.array([its.tokens for its in self.drafts]).reshape(shape)
        self._peaks: Ints = self._tokens.max(axis=1)
        self._ranks: Ints = np.array([draft.rank for draft in self.drafts], dtype=np.int64)

    def suiting(self, item: Item) -> Iterator[ServerDraft]:
        """Yield the servers that suit a version best first, whether or not there is room.

        Servers of the lowest sufficient rank come first, so that no slot is wider than necessary;
        among them the server whose load is most unlike the version's, so that peaks do not meet.
        """
        alike = np.zeros(len(self.drafts))
        if item.peak and len(self.drafts):
            together = (self._tokens + item.load.tokens).max(axis=1)
            alike = np.where(self._peaks > 0, together / (self._peaks + item.peak), 0.0)
        keys = (np.round(alike, 6), self._ranks, self._ranks < item.rank)
        return (self.drafts[place] for place in np.lexsort(keys).tolist())

    def refresh(self, draft: ServerDraft) -> None:
        """Take over a server's load and rank after a change."""
        place = self._at[draft.name]
        self._tokens[place], self._ranks[place] = draft.tokens, draft.rank
        self._peaks[place] = draft.tokens.max()


def by_base(drafts: Iterable[ServerDraft]) -> dict[str, OpenServers]:
    """Return the servers of every base."""
    pools: dict[str, list[ServerDraft]] = defaultdict(list)
    for draft in drafts:
        pools[draft.base.name].append(draft)
    return defaultdict(OpenServers, {name: OpenServers(pool) for name, pool in pools.items()})
