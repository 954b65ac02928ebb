"""Golden sets: the questions that every version of a task is judged on.

A line is `{"id", "input", "expected"}`; the id is `<task>-<slice>-<number>`, so that accuracy can
be told per slice, where one kind of question may collapse behind a good average. The seed is the
task's name: writing a set again gives the same bytes.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import NotRequired, TypedDict

from roster import GOLDEN_ITEMS, ROSTERS
from tasks import GENERATORS


class Item(TypedDict):
    """One golden question."""

    id: str
    input: str
    expected: str


class Tally(TypedDict):
    """How many of a set were answered exactly; accuracy is a fraction from 0 to 1."""

    n: int
    correct: int
    accuracy: float
    slices: NotRequired[dict[str, "Tally"]]


def write(base: str, folder: Path) -> None:
    """Write the golden set of each task on a base's roster."""
    folder.mkdir(parents=True, exist_ok=True)
    for task, judge in sorted({(recipe.task, recipe.judge) for recipe in ROSTERS[base]}):
        r, seen, lines = Random(f"golden-{task}"), set[str](), []
        while len(lines) < GOLDEN_ITEMS:
            drawn = GENERATORS[judge](r)
            if drawn.input in seen:
                continue
            seen.add(drawn.input)
            item = Item(
                id=f"{task}-{drawn.slice}-{len(lines):03d}",
                input=drawn.input,
                expected=drawn.expected,
            )
            lines.append(json.dumps(item, ensure_ascii=False) + "\n")
        (folder / f"{task}.jsonl").write_text("".join(lines), encoding="utf-8")


def read(path: Path) -> list[Item]:
    """Read a golden set."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def tally(items: list[Item], answers: Iterable[str]) -> Tally:
    """Count exact matches, overall and per slice."""
    right = {
        item["id"]: answer == item["expected"] for item, answer in zip(items, answers, strict=True)
    }
    by_slice: dict[str, list[bool]] = {}
    for name, ok in right.items():
        by_slice.setdefault(name.split("-")[1], []).append(ok)
    return {
        **_counted(list(right.values())),
        "slices": {name: _counted(oks) for name, oks in sorted(by_slice.items())},
    }


def _counted(oks: list[bool]) -> Tally:
    return {"n": len(oks), "correct": sum(oks), "accuracy": round(sum(oks) / len(oks), 4)}
