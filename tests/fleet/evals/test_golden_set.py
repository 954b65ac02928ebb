"""Golden sets: what is read, and everything that is wrong with a file, at once, with its place."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import ConfigError
from fleet.evals.golden_item import MEASURES, GoldenItemError
from fleet.evals.golden_set import read_golden_set, scored_by

EXAMPLES = Path(__file__).parents[3] / "examples"
GOOD: dict[str, Any] = {"id": "a", "input": "Where?", "expected": "here"}


def lines(*items: Any) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in items)


def refused(content: bytes) -> list[tuple[int, str, str]]:
    with pytest.raises(ConfigError) as caught:
        read_golden_set(content, "golden/x.jsonl")
    found = []
    for each in caught.value.diagnostics:
        assert each.place is not None
        assert each.place.file == "golden/x.jsonl"
        found.append((each.place.line, each.code, f"{each.detail} {each.hint}"))
    return found


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*/golden/*.jsonl")), ids=str)
def test_the_examples_sets_are_read_whole(path: Path) -> None:
    content = path.read_bytes()
    found = read_golden_set(content, path.name)
    assert [each.id for each in found.items] == [
        json.loads(line)["id"] for line in content.splitlines()
    ]
    assert found.digest == hashlib.sha256(content).hexdigest()
    assert {each.checks["accuracy"].metric for each in found.items} == {"exact"}


def test_what_an_item_may_say() -> None:
    found = read_golden_set(
        b"\xef\xbb\xbf"
        + lines(
            {"defaults": {"metric": "contains", "max_tokens": 9, "system": "Be short."}},
            GOOD | {"tags": ["must_pass"], "context": "It is here."},
            {"id": "b", "prompt": "1 + 1 =", "expected": 2, "metric": {"numeric": {"absolute": 1}},
             "format": {"regex": {"pattern": "[0-9]+"}}, "max_tokens": 3},
            {"id": "c", "messages": [{"role": "user", "content": "hi"}], "metric": "refusal",
             "grounding": {"judge": {"question": "True?"}}},
        )
        + b"\n",
        "x",
    )  # fmt: skip
    a, b, c = found.items
    assert a.messages == (
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "Where?"},
    )
    assert (a.max_tokens, a.source, found.must_pass) == (9, "It is here.", ("a",))
    assert {name: check.metric for name, check in a.checks.items()} == {
        "accuracy": "contains", "grounded": "grounded_numbers",
    }  # fmt: skip
    assert (b.prompt, b.max_tokens, set(b.checks)) == ("1 + 1 =", 3, {"accuracy", "format"})
    assert set(c.checks) <= set(MEASURES)
    assert c.checks["grounded"].options == {"question": "True?"}


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ("", "FC1301", "no item"),
        ("\n\n", "FC1301", "no item"),
        ('{"defaults": {}}', "FC1301", "no item"),
        ("{", "FC1302", "double quotes"),
        ("[1]", "FC1302", "JSON object"),
        ('{"id": "a", "id": "b"}', "FC1302", "`id` stands twice"),
        ('{"id": "a", "input": "x", "expected": NaN}', "FC1302", "NaN"),
        ("[" * 100_000, "FC1302", ""),
        ('{"input": "x", "expected": "y"}', "FC1303", "`id`"),
        ('{"id": " ", "input": "x", "expected": "y"}', "FC1303", "`id`"),
        ('{"id": "a", "expected": "y"}', "FC1303", "none"),
        ('{"id": "a", "input": "x", "prompt": "x"}', "FC1303", "`input` and `prompt`"),
        ('{"id": "a", "input": "  ", "expected": "y"}', "FC1303", "empty"),
        ('{"id": "a", "messages": [], "expected": "y"}', "FC1303", "at least one"),
        ('{"id": "a", "messages": [{"role": "user"}]}', "FC1303", "`content`"),
        ('{"id": "a", "input": "x"}', "FC1303", "`expected` is missing"),
        ('{"id": "a", "input": "x", "expectd": "y"}', "FC1303", "did you mean `expected`"),
        ('{"id": "a", "input": "x", "expected": "y", "metric": "exakt"}', "FC1303", "`exact`"),
        ('{"id": "a", "input": "x", "expected": "y", "metric": {}}', "FC1303", "{NAME:"),
        ('{"id": "a", "input": "x", "expected": "(", "metric": "regex"}', "FC1303", "not a reg"),
        ('{"id": "a", "input": "x", "expected": "b", "metric": "numeric"}', "FC1303", "a number"),
        ('{"id": "a", "input": "x", "expected": {}, "metric": "json_fields"}', "FC1303", "field"),
        ('{"id": "a", "input": "x", "expected": {"type": 1}, "metric": "json_schema"}', "FC1303",
         "not a JSON Schema"),
        ('{"id": "a", "input": "x", "expected": "b", "metric": {"label": {"labels": ["c"]}}}',
         "FC1303", "not one of the labels"),
        ('{"id": "a", "input": "x", "expected": "b", "metric": {"exact": {"case": 1}}}', "FC1303",
         "normalise"),
        ('{"id": "a", "input": "x", "expected": "b", "metric": {"exact": {"normalise": ["x"]}}}',
         "FC1303", "casefold"),
        ('{"id": "a", "input": "x", "metric": "judge", "tags": ["must_pass"]}', "FC1303",
         "not by a judge"),
        ('{"id": "a", "input": "x", "metric": "declared_format"}', "FC1303", "adapter declares"),
        ('{"id": "a", "input": "x", "metric": {"json_schema": {"schema": {"$ref": "http://h/x"}}}}',
         "FC1303", "another file or host"),
        ('{"id": "a", "input": "x", "expected": "b", "tags": "t"}', "FC1303", "`tags`"),
        ('{"id": "a", "input": "x", "expected": "b", "max_tokens": 0}', "FC1303", "1 or more"),
        ('{"id": "a", "input": "x", "expected": "b", "group": 7}', "FC1303", "`group` is a text"),
        ('{"id": "a", "input": "x", "expected": "b", "metric": {"exact": {"normalise": [["x"]]}}}',
         "FC1303", "casefold"),
        ('{"id":"a", "input":"x", "expected":{"a":1}, "metric": {"json_fields": {"fields":[[]]}}}',
         "FC1303", "some of a"),
        (f'{{"id": "a", "input": "x", "expected": {10**400}, "metric": "numeric"}}', "FC1303",
         "a number"),
        ('{"id": "\\ud83d", "input": "x", "expected": "y"}', "FC1302", "half a character"),
        ('{"defaults": {"expected": 1}}', "FC1303", "`defaults` may hold"),
    ],
)  # fmt: skip
def test_each_mistake_has_its_words(line: str, code: str, says: str) -> None:
    [(number, found, detail)] = refused(line.encode())
    assert (number, found) == (1, code)
    assert says in detail


def test_all_mistakes_are_told_at_once_each_with_its_line() -> None:
    content = (
        lines(GOOD, GOOD, {"id": "b"}) + b"\xff\n\n{\n" + lines(GOOD | {"id": "c", "metric": 1})
    )
    assert [(line, code) for line, code, _ in refused(content)] == [
        (2, "FC1304"), (3, "FC1303"), (4, "FC1302"), (6, "FC1302"), (7, "FC1303"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("score", "says"),
    [
        ("numerik", "there is no metric `numerik`"),
        ("numeric", "`numeric` cannot score `b` of x: `expected` is a number"),
        ("json_schema", "needs a JSON Schema"),
        ("declared_format", "the adapter declares no `format`"),
        ("exact", ""),
    ],
)
def test_a_metric_for_all_items_can_score_each_of_them(score: str, says: str) -> None:
    found = read_golden_set(lines(GOOD | {"expected": "1"}, GOOD | {"id": "b"}), "x")
    if not says:
        made = scored_by(found, score)
        assert {each.checks["accuracy"].metric for each in made.items} == {score}
        assert made.digest != found.digest
        return
    with pytest.raises(GoldenItemError, match=re.escape(says)):
        scored_by(found, score)
