"""A judge that compares two versions is asked in both orders, and the order decides nothing."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import ConfigError, EvalError
from fleet.evals.judging import read_labels
from fleet.evals.run import EvalRun
from fleet.evals.summary import paired_scores
from fleet.spec import EvalSpec, JudgeSpec
from runtime.evals.evaluate import evaluate, evaluate_pair
from runtime.evals.judge import judge_labels
from tests.runtime.evals.scripted import CANARY, STABLE, Peer, eval_context, golden, peer, target

PAIRS = tuple(
    {"id": f"i{n}", "input": f"q{n}", "metric": {"judge": {"pairwise": True}}} for n in range(4)
)


def answers(model: str, question: str, __: int) -> str:
    """The new version is better on q0, worse on q1, the same on q2, and silent on q3."""
    new = model == CANARY
    said = {"q0": ("poor", "good"), "q1": ("good", "poor"), "q2": ("so", "so"), "q3": ("so", "")}
    return said.get(question, ("hi", "hi"))[new]


def better(_: str, question: str, __: int) -> str:
    return "A" if "<A>\ngood" in question else "B." if "<B>\ngood" in question else "TIE"


def pair(server: Peer, court: Peer, folder: Path) -> tuple[EvalRun, EvalRun]:
    spec = EvalSpec(judge=JudgeSpec(court.url, "critic", ""))
    both = target(server), target(server, CANARY)
    return asyncio.run(evaluate_pair(*both, golden(*PAIRS), spec, eval_context(folder)))


def test_the_better_answer_wins_whatever_stands_first(tmp_path: Path) -> None:
    with peer(answers) as server, peer(better) as court:
        stable, canary = pair(server, court, tmp_path)
        found = paired_scores(stable, canary)
        assert (found.stable, found.canary) == ((0, 1, 1, 1), (1, 0, 1, 0))
        assert len(court.asked) == 4, "what is the same, or empty, is not asked"
        orders = [each["messages"][0]["content"].index("good") for each in court.asked]
        assert len(set(orders)) > 1
        kept = eval_context(tmp_path).store
        assert kept.read(canary.id) == canary
        # The answers may be used again; what the judge said of this pair may not.
        again = [each for each in kept.runs() if each.adapter == STABLE and not each.cached]
        assert [{s.scores["accuracy"] for s in each.samples} for each in again] == [{1.0}]
        pair(server, court, tmp_path)
        assert sum(each["model"] == STABLE for each in server.asked) == 4 + 3, "probes"


@pytest.mark.parametrize("word", ["A", "B", "TIE", "A good question.", ""])
def test_a_judge_that_says_always_the_same_finds_nobody_better(tmp_path: Path, word: str) -> None:
    with peer(answers) as server, peer(lambda *_: word) as court:
        found = paired_scores(*pair(server, court, tmp_path))
    assert (found.stable[:3], found.canary[:3]) == ((1, 1, 1), (1, 1, 1))


def code(call: Any) -> str:
    with pytest.raises(EvalError) as caught:
        call()
    return caught.value.diagnostics[0].code


def test_one_version_alone_or_without_a_judge_is_compared_with_nothing(tmp_path: Path) -> None:
    with peer(answers) as server, peer(lambda *_: 503) as gone:
        alone = evaluate(target(server), golden(*PAIRS), EvalSpec(), eval_context(tmp_path))
        assert code(lambda: asyncio.run(alone)) == "FC4512"
        assert code(lambda: pair(server, gone, tmp_path)) == "FC4510"
        both = target(server), target(server, CANARY)
        unjudged = evaluate_pair(*both, golden(*PAIRS), EvalSpec(), eval_context(tmp_path))
        assert code(lambda: asyncio.run(unjudged)) == "FC4511"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"metric": {"judge": {"pairwise": 1}}}, "true or false"),
        ({"format": {"judge": {"pairwise": True}}, "metric": "finish"}, "accuracy alone"),
        ({"metric": {"judge": {"pairs": True}}}, "the options of `judge`"),
    ],
)
def test_what_cannot_be_compared_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        golden({"id": "a", "input": "q", **options})
    assert says in caught.value.diagnostics[0].detail


def test_labels_of_pairs_are_compared_in_both_orders(tmp_path: Path) -> None:
    line = b'{"id": "%s", "input": "q", "answer": "good", "other": "poor", "label": "yes"}\n'
    labels = read_labels(line % b"a" + (line % b"b").replace(b"good", b"so"), "l.jsonl")
    with peer(better) as court:
        spec = EvalSpec(judge=JudgeSpec(court.url, "critic", ""))
        assert asyncio.run(judge_labels(labels, spec, eval_context(tmp_path))) == [True, None]
