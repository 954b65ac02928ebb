"""Captured requests are asked of both versions before any traffic, and their text is not kept."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from fleet.gates import Finding, Verdict, recheck_verdict
from fleet.policies import INTACT, GateSpec
from fleet.resources import State
from fleet.spec import FleetSpec
from fleet.traffic import CapturePolicy
from runtime.gates.offline import OfflineResult, judge_golden
from runtime.usage.captured import FOLDER, CapturedItem, CaptureWriter
from tests.runtime.evals.scripted import peer
from tests.runtime.gates.test_evidence import NOON, declared, office, trial
from tests.runtime.gateway.stage import NEW, OLD

REPLAYS = GateSpec("replays", "replay_drop", 8, "pp", score=INTACT)
SAID = "The parcel of order {} is at the depot since this morning, and comes on Tuesday."
Say = Callable[[str, str, int], str]


def capture(root: Path, number: int, users: int = 0) -> None:
    """Capture requests of as many users, 0: of no user; every request twice."""
    writer = CaptureWriter(root, "main")
    for at in range(2 * number):
        asked = {"messages": [{"role": "user", "content": f"Where is order {at % number}?"}]}
        user = f"ann-{at % number % users}" if users else ""
        item = CapturedItem(
            NOON.isoformat(), f"r{at}", "acme-support", OLD, "/v1/chat/completions", user, "",
            9, msgspec.Raw(json.dumps(asked).encode()), SAID.format(at % number),
        )  # fmt: skip
        writer.write("acme", item, 30)


def agreed() -> FleetSpec:
    made = declared()
    client = replace(made.clients["acme"], capture=CapturePolicy(100, 30))
    return replace(made, clients={**made.clients, "acme": client})


def replayed(
    root: Path, say: Say, fleet: FleetSpec | None = None, gate: GateSpec = REPLAYS
) -> OfflineResult:
    with peer(say) as server:
        given = trial(0, "s1", offline=(gate,))
        live = State(urls={"s1": server.url})
        found = asyncio.run(judge_golden(given, fleet or agreed(), live, office(root)))
        asked = [body["messages"][-1]["content"] for body in server.asked]
        asked = [question for question in asked if question.startswith("Where")]
    assert {*Counter(asked).values()} <= {1, 2}  # of each version once, at most
    return found


def finding(root: Path, say: Say) -> Finding:
    (judged,) = replayed(root, say).judged
    assert recheck_verdict(judged.finding.plain()) == judged.finding
    return judged.finding


def same(model: str, question: str, times: int) -> str:
    del model, times
    return SAID.format(question.rsplit(maxsplit=1)[-1].rstrip("?"))


def test_a_version_that_answers_as_soundly_passes(tmp_path: Path) -> None:
    capture(tmp_path, 60)
    found = finding(tmp_path, same)
    assert (found.verdict, found.counts["items"]) == (Verdict.PASS, 60)


@pytest.mark.parametrize(
    "broken",
    ["", "I'm sorry, I cannot help with that, please ask somebody of our staff on the phone.",
     "{}", "Here is a long story about your parcel. " * 9],
    ids=["empty", "refuses", "much shorter", "much longer"],
)  # fmt: skip
def test_a_version_that_breaks_four_answers_of_ten_fails(tmp_path: Path, broken: str) -> None:
    capture(tmp_path, 60)

    def say(model: str, question: str, times: int) -> str:
        said = same(model, question, times)
        third = question.rstrip("?")[-1:] in set("0369")
        return broken if model == NEW and third else said

    assert finding(tmp_path, say).verdict is Verdict.FAIL


def test_requests_of_one_user_count_together(tmp_path: Path) -> None:
    capture(tmp_path, 90, users=12)
    found = finding(tmp_path, same)
    assert (found.counts["items"], found.counts["clusters"]) == (60, 12)  # five of each user
    assert found.verdict is Verdict.INCONCLUSIVE


def test_no_text_and_no_user_is_kept_of_a_replay(tmp_path: Path) -> None:
    capture(tmp_path, 40, users=30)
    result = replayed(tmp_path, lambda model, *_: "I'm sorry, ann-3." if model == NEW else "Depot.")
    assert {event.purpose for event in result.events} == {"replay"}
    kept = [path for path in tmp_path.rglob("*") if path.is_file() and FOLDER not in path.parts]
    assert len(kept) >= 2  # a run of each version
    text = b"".join(path.read_bytes() for path in kept) + repr(result).encode()
    assert not any(word in text for word in (b"parcel", b"order", b"sorry", b"Depot", b"ann-"))
    assert b"refused" in text


def test_the_questions_of_a_file_may_be_asked_in_their_place(tmp_path: Path) -> None:
    items = [
        {"id": f"q{at}", "input": f"Where is order {at}?", "expected": SAID.format(at)}
        for at in range(60)
    ]
    text = "".join(f"{json.dumps(item)}\n" for item in items)
    (tmp_path / "prompts.jsonl").write_text(text, "utf-8")
    by_file = replace(REPLAYS, golden="prompts.jsonl")
    (judged,) = replayed(tmp_path, same, declared(), by_file).judged
    assert (judged.finding.verdict, judged.finding.counts["items"]) == (Verdict.PASS, 60)
    assert set(judged.digests) == {"golden", "terms"}


def test_too_few_requests_and_no_consent_decide_nothing(tmp_path: Path) -> None:
    capture(tmp_path, 19)
    few = replayed(tmp_path, same).judged[0]
    assert "19 captured requests of `acme-support` can be asked again" in few.problem
    capture(tmp_path, 60)
    not_agreed = replayed(tmp_path, same, declared()).judged[0]
    assert "`acme` has not agreed to `capture`" in not_agreed.problem
    assert {few.finding.verdict, not_agreed.finding.verdict} == {Verdict.INCONCLUSIVE}


def test_other_questions_a_day_later_do_not_void_a_verdict(tmp_path: Path) -> None:
    capture(tmp_path, 60)
    (judged,) = replayed(tmp_path, same).judged
    assert set(judged.digests) == {"terms"}
