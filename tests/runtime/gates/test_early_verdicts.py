"""A golden set is asked in parts, and no further where its verdict is sure."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fleet.gates import Verdict, recheck_verdict
from fleet.policies import GateSpec
from fleet.resources import State
from runtime.gates.offline import OfflineResult, judge_golden, judge_runs
from tests.runtime.evals.scripted import Say, peer
from tests.runtime.gates.test_evidence import declared, office, trial
from tests.runtime.gateway.stage import NEW, OLD

ANSWERS = GateSpec("answers", "accuracy_drop", 3, "pp")
ITEMS = 200


def judged(root: Path, say: Say, gates: tuple[GateSpec, ...] = (ANSWERS,)) -> OfflineResult:
    items: list[dict[str, Any]] = [
        {"id": f"q{n}", "input": f"ask {n}", "expected": "yes"} for n in range(ITEMS)
    ]
    items[ITEMS - 1]["tags"] = ["must_pass"]
    (root / "g.jsonl").write_text("".join(f"{json.dumps(item)}\n" for item in items), "utf-8")
    with peer(say) as server:
        live = State(urls={"s1": server.url})
        given = trial(0, "s1", offline=gates)
        found = asyncio.run(judge_golden(given, declared(), live, office(root)))
    for one in found.judged:
        stable, canary = map(office(root).store.read, one.runs)
        assert len(stable.items) == ITEMS
        assert len(canary.items) == one.finding.counts["items"]
        assert judge_runs(ANSWERS, stable, canary).counts == one.finding.counts
        assert recheck_verdict(one.finding.plain()) == one.finding
    return found


def number(question: str) -> int:
    return int(question.rsplit(maxsplit=1)[-1]) if question.startswith("ask") else 0


def test_a_version_that_is_wrong_half_of_the_time_fails_by_the_first_fifth(tmp_path: Path) -> None:
    def say(model: str, question: str, times: int) -> str:
        del times
        return "no" if model == NEW and number(question) % 2 == 0 else "yes"

    (one,) = judged(tmp_path, say).judged
    assert (one.finding.verdict, one.finding.counts["items"]) == (Verdict.FAIL, ITEMS / 5)
    assert "(99.95 % sure: at most" in one.finding.reason


def test_equal_answers_pass_before_the_last_item(tmp_path: Path) -> None:
    (one,) = judged(tmp_path, lambda *_: "yes").judged
    assert (one.finding.verdict, one.finding.counts["items"]) == (Verdict.PASS, 4 * ITEMS / 5)


def test_a_gate_that_is_not_sure_has_the_rest_asked(tmp_path: Path) -> None:
    strict = replace(ANSWERS, name="strict", threshold=2)
    first, second = judged(tmp_path, lambda *_: "yes", (ANSWERS, strict)).judged
    assert {first.finding.counts["items"], second.finding.counts["items"]} == {ITEMS}
    assert first.finding.verdict is second.finding.verdict is Verdict.PASS


def test_an_item_that_must_pass_is_asked_in_the_first_part(tmp_path: Path) -> None:
    def say(model: str, question: str, times: int) -> str:
        del times
        return "no" if model == NEW and number(question) == ITEMS - 1 else "yes"

    (one,) = judged(tmp_path, say).judged
    assert (one.finding.verdict, one.finding.counts["items"]) == (Verdict.FAIL, ITEMS / 5)


@pytest.mark.parametrize("version", [OLD, NEW])
def test_answers_of_a_part_are_not_taken_for_those_of_the_set(tmp_path: Path, version: str) -> None:
    def say(model: str, question: str, times: int) -> str:
        del question, times
        return "no" if model == version else "yes"

    judged(tmp_path, say)
    (again,) = judged(tmp_path, say).judged  # stable's answers are those of before
    assert again.finding.verdict is (Verdict.FAIL if version == NEW else Verdict.PASS)
