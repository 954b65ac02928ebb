"""A result comes out of its loop without being written out in words."""

import asyncio

from runtime import event_loop

WORDED: list[object] = []


class Large:
    def __repr__(self) -> str:
        WORDED.append(self)
        return "large"


async def looked() -> Large:
    return Large()


def test_a_result_is_returned_and_never_put_into_words() -> None:
    asyncio.run(looked())
    assert WORDED, "the loops of this Python no longer word results: asyncio.run will do"
    WORDED.clear()
    assert isinstance(event_loop.run(looked()), Large)
    assert not WORDED
