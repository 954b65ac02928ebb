"""How many tokens an answer has that came in pieces, by what a tokenizer says of its text."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from runtime.gateway.typed_events import Sent

CALLS: Final = 63
"""To the tokenizer for one answer at most; nearly always one is enough."""
Said = Callable[[str], Awaitable[int]]
"""Returns how many tokens a tokenizer makes of a text."""


class Tokenized:
    """One answer.

    A piece is a token, or several where a server was slow to send. So the tokens are as many as
    the pieces or more, and where the tokenizer says no more than that, as many. It may say more
    for another reason: the model has cut the text otherwise. Halves of it tell, again and again,
    for tokens end where pieces end.
    """

    def __init__(self, sent: Sent, said: Said) -> None:
        """Begin."""
        self._sent = sent
        self._said = said
        self._calls = CALLS - 1

    async def count(self) -> int:
        """Return the tokens of the pieces that were kept.

        Raises:
            Exception: whatever the tokenizer raises where it does not answer.
        """
        return await self._count(0, len(self._sent.ends))

    async def _count(self, first: int, end: int) -> int:
        pieces, said = end - first, await self._said(self._sent.part(first, end))
        if said <= pieces:
            return pieces
        if pieces == 1 or self._calls <= 1:
            return said
        self._calls -= 2
        middle = first + pieces // 2
        halves = await asyncio.gather(self._count(first, middle), self._count(middle, end))
        return min(said, sum(halves))
