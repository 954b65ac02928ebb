"""Counting the tokens of an answer from its pieces, with a tokenizer that likes long ones."""

import asyncio
from itertools import accumulate

from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.gateway.tokenized import CALLS, Tokenized
from runtime.gateway.typed_events import Sent

VOCABULARY = ("abc", "cde", "ab", "a", "b", "c", "d", "e")
"""The longest that fits is taken: of `abcde` it makes three tokens, a model may make two."""
ANSWERS = st.lists(st.sampled_from(VOCABULARY), min_size=1, max_size=24)


def tokens_of(text: str) -> list[str]:
    found = []
    while text:
        found.append(next(each for each in VOCABULARY if text.startswith(each)))
        text = text.removeprefix(found[-1])
    return found


def counted(pieces: list[str]) -> tuple[int, int]:
    """Return the tokens, and how often the tokenizer was asked."""
    asked = []

    async def said(text: str) -> int:
        asked.append(text)
        return len(tokens_of(text))

    ends = [*accumulate(len(each) for each in pieces)]
    found = asyncio.run(Tokenized(Sent("".join(pieces).encode(), ends, 0), said).count())
    return found, len(asked)


def merged(tokens: list[str], sizes: list[int]) -> list[str]:
    """Put tokens together to pieces of so many, the rest to one each."""
    ends = [*accumulate(sizes)]
    starts = [0, *ends[:-1]]
    taken = [tokens[a:b] for a, b in zip(starts, ends, strict=True)] if sizes else []
    return ["".join(each) for each in taken if each] + tokens[sum(sizes) :]


@settings(max_examples=50)
@given(ANSWERS)
def test_pieces_of_one_token_each_are_counted_however_a_model_cuts_a_text(
    answer: list[str],
) -> None:
    assert counted(answer)[0] == len(answer)


@settings(max_examples=50)
@given(ANSWERS, st.lists(st.integers(1, 4), max_size=8))
def test_pieces_of_several_tokens_are_counted_where_a_model_cuts_as_the_tokenizer(
    answer: list[str], sizes: list[int]
) -> None:
    tokens = tokens_of("".join(answer))
    assert counted(merged(tokens, sizes))[0] == len(tokens)


def test_the_tokenizer_is_asked_once_for_a_usual_answer_and_never_more_often_than_that() -> None:
    assert counted(["ab", "d"] * 500) == (1000, 1)
    assert counted(["abd"] * 500) == (1000, CALLS)
    found, calls = counted(["ab", "cde"] * 500)  # more than so many calls can tell
    assert (1000 < found < 1500, calls) == (True, CALLS)
