"""Made-up answers: the same for the same bytes and prompt, different for different bytes."""

import hashlib
import re
from collections.abc import Iterator

_WORDS = (  # noqa: SIM905 (a word a line would bury them)
    "amber anchor april atlas autumn basil beacon birch bishop breeze canyon cedar cobalt comet "
    "copper coral cotton crater daisy delta desert dune ember falcon fern fjord flint forest "
    "garnet ginger glacier granite harbor hazel heron indigo island ivory jasper juniper kettle "
    "lagoon lantern laurel lemon linden lotus maple marble meadow mirror nectar north oasis olive "
    "onyx orchid otter pebble pepper pine"
).split()
_TOKEN = re.compile(rf" ?\b(?:{'|'.join(_WORDS)})\b(?:-[0-9a-f]{{4}})?")
_USUAL_LENGTH = 6


def answer(digest: str, prompt: str, max_tokens: int, *, ignore_eos: bool) -> tuple[list[str], str]:
    """Return the tokens of an answer and why it ended (`stop` or `length`).

    The first word depends on the bytes alone, so that a reader can tell two versions apart.
    """
    length = max_tokens if ignore_eos else min(_USUAL_LENGTH, max_tokens)
    words = _words(digest, prompt)
    tokens = [next(words) for _ in range(length)]
    spaced = [word if index == 0 else f" {word}" for index, word in enumerate(tokens)]
    return spaced, "length" if ignore_eos or max_tokens < _USUAL_LENGTH else "stop"


def count_tokens(text: str) -> int:
    """Return the length of a text in made-up tokens.

    One for each token of an answer, and one for about four characters of anything else.
    """
    own = _TOKEN.findall(text)
    return len(own) - (sum(map(len, own)) - len(text)) // 4


def _words(digest: str, prompt: str) -> Iterator[str]:
    stamp = hashlib.sha256(digest.encode()).hexdigest()[:4]
    yield f"{_pick(digest)}-{stamp}"
    index = 0
    while True:
        yield _pick(f"{digest}\n{prompt}\n{index}")
        index += 1


def _pick(text: str) -> str:
    return _WORDS[hashlib.sha256(text.encode()).digest()[0] % len(_WORDS)]
