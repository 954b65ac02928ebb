"""Declarations with random damage: `validate` names the problems, and never fails itself."""

import json
import random
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet.config import parse
from tests.attacks.conftest import call
from tests.drawn import drawn, examples

RICH = Path(__file__).with_name("rich.yaml").read_text("utf-8")
TOKENS = (
    ":", "- ", "{", "}", "[", "]", "&a ", "*a", "!!", "? ", "| ", "> ", "#", "'", '"', "\t", "\n",
    "\r", "%", "---\n", "<<: ", "${env:X}", "${var.x}", "${", "\x00", "\x1b[31m", "\x85", "\u202e",
    "\ufeff", "::error::", "~", "null", "1e999", ".nan", "0x", "1_0", "1:1", "9" * 5000, "é" * 300,
    "  " * 90, "\U0001f600", "{{ 1 }}", "../", "/dev/zero", "env:", "file:", "http://", "\udc80",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 10**40, 1e308, "", " ", "x" * 5000, "\x00", "\x1b]0;t\x07", "\u2028", [], {},
    [[]], [None], {"": 1}, {"x": {"y": []}}, "1.10", "24h", "-5%", "999999999999GiB", "25:00-26:00",
    "..", "/", "~", "env:PATH", "file:/etc/passwd", "${env:HOME}", "http://x.test", "v1", "*",
    "unix:/dev/null", "a/b", "-1h",
)  # fmt: skip


def torn(text: str, chance: random.Random) -> str:
    """Return a text with one to four places damaged."""
    for _ in range(chance.randint(1, 4)):
        begin = chance.randrange(len(text) + 1)
        end = min(len(text), begin + chance.choice((0, 1, 1, 5, 80)))
        token = chance.choice((*TOKENS, text[begin:end] * 2, ""))
        text = text[:begin] + token + text[end:]
    return text


def rebuilt(chance: random.Random) -> str:
    """Return the document with one to four values replaced, removed, or under another key."""
    document = parse(RICH, "fleet.yaml").value
    for _ in range(chance.randint(1, 4)):
        parent: Any = document
        while True:
            keys = list(parent) if isinstance(parent, dict) else list(range(len(parent)))
            if not keys:
                break
            key = chance.choice(keys)
            child = parent[key]
            if isinstance(child, dict | list) and child and chance.random() < 0.8:
                parent = child
                continue
            value = deepcopy(chance.choice((*VALUES, child)))
            if isinstance(parent, dict) and chance.random() < 0.3:
                del parent[key]
                key = chance.choice(("", "x-other", "fleet", " ", "\x1b", "é", str(key).upper()))
            parent[key] = value
            break
    return json.dumps(document, ensure_ascii=chance.random() < 0.5)


@drawn
@pytest.mark.usefixtures("trust_home")
@settings(
    max_examples=examples(60, 1_000),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(chance=st.randoms(use_true_random=True))
def test_random_damage_is_named(project: Path, chance: random.Random) -> None:
    text = torn(RICH, chance) if chance.random() < 0.6 else rebuilt(chance)
    (project / "fleet.yaml").write_text(text, encoding="utf-8", errors="surrogateescape")
    done = call(project, "validate")
    assert done.code in {0, 1}
    assert (done.code == 1) is ("Error" in done.stderr)
    assert "FC1311" not in done.text, done.text
    assert {character for character in done.text if not character.isprintable()} <= {"\n"}
