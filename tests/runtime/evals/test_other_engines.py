"""Engines that are other programs: what they print is checked, and their exit codes prove nothing.

The tools themselves are run for real in `tests/fleetctl/versions/test_evals_on_vllm.py`.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import FleetError
from fleet.evals.run import EvalRun
from fleet.evals.summary import run_faults, summarize
from fleet.spec import EvalSpec
from plans.reports.versions import page
from runtime.evals.evaluate import evaluate
from tests.runtime.evals.scripted import eval_context, golden, peer, simple, target

SET = {"id": "i0", "input": "q0", "expected": "a0"}, {"id": "i1", "input": "q1", "expected": "a1"}


def right(_: str, question: str, __: int) -> Any:
    return question.replace("q", "a")


def run(folder: Path, spec: EvalSpec, items: Any = None) -> EvalRun:
    questions = items or golden(*SET)
    with peer(right) as server:
        return asyncio.run(evaluate(target(server), questions, spec, eval_context(folder)))


def refused(folder: Path, spec: EvalSpec, items: Any = None) -> tuple[str, str]:
    with pytest.raises(FleetError) as caught:
        run(folder, spec, items)
    first = caught.value.diagnostics[0]
    return first.code, f"{first.detail} {first.hint}"


def program(folder: Path, *lines: str, code: int = 0) -> tuple[str, ...]:
    path = folder / "program.py"
    text = "".join(f"print({line!r})\n" for line in lines)
    path.write_text(f"import sys\n{text}sys.exit({code})\n", encoding="utf-8")
    return sys.executable, "program.py", "{url}", "{model}", "{golden}", "{samples}"


def command(folder: Path, *lines: str, code: int = 0, missing: int = 0) -> EvalSpec:
    return EvalSpec("command", command=program(folder, *lines, code=code), max_missing=missing)


def test_half_a_character_in_an_answer_is_kept_as_it_was_said(tmp_path: Path) -> None:
    said = ['{"item": "i0", "answer": "smile \\ud83d\\u2028!"}', '{"item": "i1", "answer": "b"}']
    found = run(tmp_path, command(tmp_path, *said))
    assert run_faults(found) == ()
    assert [each.answer for each in found.samples] == ["smile \ud83d\u2028!", "b"]
    assert eval_context(tmp_path).store.read(found.id) == found
    assert page(found, None)["wrong"][0]["answer"].encode()


def test_what_a_program_prints_is_scored_where_it_did_not_score(tmp_path: Path) -> None:
    spec = command(
        tmp_path,
        '{"item": "i0", "answer": "a0", "finish": "stop"}',
        "",
        '{"item": "i1", "answer": "b", "scores": {"accuracy": 0.5}, "note": "half"}',
    )
    found = run(tmp_path, spec)
    assert run_faults(found) == ()
    assert {each.item: each.scores["accuracy"] for each in found.samples} == {"i0": 1.0, "i1": 0.5}
    assert found.engine_version == f"command {Path(sys.executable).name}"


@pytest.mark.parametrize(
    ("lines", "code", "says"),
    [
        (["{"], 0, "line 1 is not JSON"),
        (['{"item": "i9", "answer": "x"}'], 0, "`i9` is not in the golden set"),
        (['{"item": "i0", "answer": "x"}'] * 2, 0, "has this answer already"),
        (['{"item": "i0", "answer": 3}'], 0, "`answer` is 3"),
        (['{"item": "i0", "scores": {"accuracy": 1.1}}'], 0, "from 0 to 1"),
        (['{"item": "i0", "scores": {"accurracy": 1}}'], 0, "`accurracy`"),
        (['{"item": "i0", "answer": "a0"}', '{"item": "i1", "answer": "a1"}'], 3, "exit code 3"),
    ],
)
def test_a_program_that_prints_something_else_or_fails_gives_no_result(
    lines: list[str], code: int, says: str, tmp_path: Path
) -> None:
    found = refused(tmp_path, command(tmp_path, *lines, code=code))
    assert found[0] == "FC4521"
    assert says in found[1]
    assert not list((tmp_path / "evals").glob("*.jsonl"))


def test_a_program_that_ends_well_and_answers_half_does_not_count(tmp_path: Path) -> None:
    half = run(tmp_path, command(tmp_path, '{"item": "i0", "answer": "a0"}'))
    assert run_faults(half)[0].startswith("1 of 2 items have no scored answer")
    allowed = run(tmp_path, command(tmp_path, '{"item": "i0", "answer": "a0"}', missing=1))
    assert (run_faults(allowed), summarize(allowed)["accuracy"]) == ((), 0.5)
    stranger = '{"item": "i0", "answer": "a0", "model": "tiny"}'
    other = run(tmp_path, command(tmp_path, stranger, missing=1))
    assert "answers came from `tiny`" in run_faults(other)[0]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ((), "FC4523", "none is declared"),
        (("ask", "{modle}"), "FC4523", "`{modle}` is no placeholder"),
        (("/nowhere/ask",), "FC4521", "cannot be started"),
    ],
)
def test_a_command_that_cannot_be_started(
    words: tuple[str, ...], code: str, says: str, tmp_path: Path
) -> None:
    found = refused(tmp_path, EvalSpec("command", command=words))
    assert found[0] == code
    assert says in found[1]


@pytest.mark.parametrize("engine", ["inspect", "lm_eval"])
def test_a_tool_that_is_not_there_or_leaves_nothing_gives_no_result(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable = {"inspect": "FLEETCTL_INSPECT_PYTHON", "lm_eval": "FLEETCTL_LMEVAL_PYTHON"}[engine]
    monkeypatch.setenv(variable, str(tmp_path / "none"))
    found = refused(tmp_path, EvalSpec(engine))
    assert found[0] == "FC4520"
    assert variable in found[1]
    liar = tmp_path / "python"
    liar.write_text("#!/bin/sh\necho all went well >&2\nexit 0\n", encoding="utf-8")
    liar.chmod(0o755)
    monkeypatch.setenv(variable, str(liar))
    found = refused(tmp_path, EvalSpec(engine))
    assert found[0] == "FC4521"
    assert "(exit code 0)" in found[1]
    assert "all went well" in found[1]


@pytest.mark.parametrize("engine", ["inspect", "lm_eval"])
@pytest.mark.parametrize(
    "more",
    [
        {"metric": {"json_fields": {}}, "expected": {"a": 1}},
        {"metric": {"exact": {"normalise": ["casefold"]}}},
        {"context": "a source"},
    ],
)
def test_items_that_a_tool_would_score_otherwise_are_refused(
    engine: str, more: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("FLEETCTL_INSPECT_PYTHON", "FLEETCTL_LMEVAL_PYTHON"):
        monkeypatch.setenv(variable, sys.executable)
    found = refused(tmp_path, EvalSpec(engine), golden(SET[0] | more))
    assert found[0] == "FC4522"
    assert "`i0`" in found[1]


def test_a_judge_scores_what_a_program_answers(tmp_path: Path) -> None:
    items = golden({"id": "i0", "input": "q0", "expected": "a0", "metric": "judge"})
    spec = command(tmp_path, json.dumps({"item": "i0", "answer": "x"}))
    assert refused(tmp_path, spec, items)[0] == "FC4511"


def test_an_engine_that_does_not_exist_is_named(tmp_path: Path) -> None:
    assert refused(tmp_path, EvalSpec("nativ"), simple(1)) == (
        "FC4506",
        "`nativ` is none of command, inspect, lm_eval, native. did you mean `native`?",
    )


def test_answers_of_a_program_are_never_used_again(tmp_path: Path) -> None:
    place = eval_context(tmp_path)
    with peer(right) as server:
        for said in ("a0", "b0"):
            lines = (f'{{"item": "i{n}", "answer": "{said}"}}' for n in range(2))
            spec = command(tmp_path, *lines)
            found = asyncio.run(evaluate(target(server), golden(*SET), spec, place, reuse=True))
            assert (found.cached, found.samples[0].answer) == (False, said)
