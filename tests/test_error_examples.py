"""Examples of error codes that quote an error are in the words that the source has today."""

import ast
import re
from functools import cache
from itertools import chain
from pathlib import Path

from fleetctl.catalogue import entries

REPOSITORY = Path(__file__).parent.parent
NAMED, ELSEWHERE = 13, 18
"""Lower bounds of the constant characters of a text: in a module that names the code, in others."""
INPUTS = frozenset(f"FC{number}" for number in (
    1010, 1011, 1015, 1219, 1222, 1232, 1233, 1235, 1236, 1243, 1246, 1247, 1248, 1249, 1250,
    1251, 1254, 1255, 1256, 1257, 1260, 1262, 1267, 1268, 1270, 1271, 1272, 1273, 1274, 1275,
    1276, 1277, 1278, 1279, 1281, 1282, 1285, 1286, 1287, 1288, 1290, 1291, 1297, 1298, 1301,
    1302, 1303, 1304, 1305, 1310, 1311, 1312, 1313, 1330, 1331, 1333, 1334, 1335, 1340, 1341,
    1343, 2001, 2002, 2003, 2004, 2005, 2006, 2007, 2008, 2009, 2010, 2011, 2050, 2051, 2052,
    2053, 3001, 3002, 3003, 3011, 3012, 3013, 3014, 3015, 3016, 3019, 3020, 3040, 3042, 3045,
    3051, 3052, 3053, 3054, 3055, 3056, 3101, 3111, 3128, 4001, 4002, 4003, 4004, 4005, 4009,
    4011, 4013, 4091, 4097, 4537, 5002, 5012, 5020, 5105, 5107, 5126, 5127, 5128, 5180, 6007,
    6018, 6080, 6110,
))  # fmt: skip
"""Codes whose example is the input, the situation or the words of another program."""
Words = tuple[tuple[str, ...], int]
"""Constant parts of a text in their order, between which values stand, and their characters."""


def words_of(node: ast.AST) -> Words:
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    found = [
        re.sub(r"\s+", " ", part.value)
        for part in parts
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
    ]
    return tuple(filter(None, found)), sum(map(len, found))


@cache
def texts() -> tuple[tuple[str, frozenset[Words]], ...]:
    """Return the source of every module with its texts."""
    found = []
    for package in ("fleet", "plans", "runtime", "fleetctl"):
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            source = path.read_text(encoding="utf-8")
            nodes = [*ast.walk(ast.parse(source))]
            joined = [node for node in nodes if isinstance(node, ast.JoinedStr)]
            inner = {id(part) for node in joined for part in node.values}
            own = {words_of(node) for node in nodes if id(node) not in inner}
            found.append((source, frozenset(text for text in own if text[1] >= NAMED)))
    return tuple(found)


def is_in(parts: tuple[str, ...], text: str) -> bool:
    at = 0
    for part in parts:
        found = text.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return True


@cache
def long_texts() -> frozenset[tuple[str, ...]]:
    """Return the texts that need no code beside them to count."""
    return frozenset(parts for _, words in texts() for parts, size in words if size >= ELSEWHERE)


def is_quote(code: str, example: str) -> bool:
    """Say whether an example fills in a text of the source."""
    whole = f" {' '.join(example.split())} "
    beside = (parts for source, words in texts() if code in source for parts, _ in words)
    return any(is_in(parts, whole) for parts in chain(beside, long_texts()))


def test_an_example_that_quotes_an_error_is_in_the_words_of_the_source() -> None:
    given = {code: entry.example for code, entry in entries().items() if entry.example}
    quotes = {code: text for code, text in given.items() if code not in INPUTS}
    assert len(quotes) > 220
    assert given.keys() >= INPUTS
    assert {code: text for code, text in quotes.items() if not is_quote(code, text)} == {}
    assert not is_quote("FC5001", "`fleet.yaml` is no JSON at all: expecting value.")


def without_values(text: str) -> str:
    return re.sub("`[^`]*`", "``", " ".join(text.split()))


def test_an_example_of_a_mistake_that_is_played_is_what_is_printed() -> None:
    page = (REPOSITORY / "docs" / "mistakes.md").read_text(encoding="utf-8")
    blocks = [*map(without_values, re.findall("```text\n(.*?)```", page, re.DOTALL))]
    played = {}
    for code, entry in entries().items():
        printed = [block for block in blocks if f"[{code}]" in block]
        if printed and entry.example and code not in INPUTS:
            parts = [part.strip() for part in without_values(entry.example).split("…")]
            played[code] = any(all(part in block for part in parts) for block in printed)
    assert len(played) > 12
    assert [code for code, found in played.items() if not found] == []
