"""The native engine against a scripted peer: what it asks, what it keeps, what does not count."""

import asyncio
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import EvalError, FleetError
from fleet.evals.run import EvalRun
from fleet.evals.summary import must_pass_failed, paired_scores, run_faults, summarize
from fleet.spec import EvalSpec, JudgeSpec
from runtime.evals.evaluate import evaluate, evaluate_pair
from tests.runtime.evals.scripted import (
    CANARY,
    STABLE,
    Peer,
    eval_context,
    golden,
    peer,
    simple,
    target,
)

PROBES = 2
USUAL = EvalSpec()


def right(_: str, question: str, __: int) -> Any:
    return question.replace("q", "a")


def ask(
    server: Peer, folder: Path, items: Any = None, spec: EvalSpec = USUAL, **more: Any
) -> EvalRun:
    return asyncio.run(
        evaluate(target(server), items or simple(3), spec, eval_context(folder), **more)
    )


def code(call: Any) -> tuple[str, str]:
    with pytest.raises(FleetError) as caught:
        call()
    first = caught.value.diagnostics[0]
    return first.code, first.detail


def test_a_run_holds_every_answer_and_reads_back_from_its_file(tmp_path: Path) -> None:
    with peer(lambda _, question, __: "a1" if question == "q1" else "b") as server:
        run = ask(server, tmp_path)
    assert {each.item: each.scores for each in run.samples} == {
        "i0": {"accuracy": 0.0}, "i1": {"accuracy": 1.0}, "i2": {"accuracy": 0.0},
    }  # fmt: skip
    assert (run_faults(run), run.models, run.fingerprints) == ((), (STABLE,), ("engine-1",))
    assert eval_context(tmp_path).store.read(run.id) == run
    found = summarize(run)
    assert (found["accuracy"], found["correct"], found["n"]) == (0.3333, 1, 3)
    assert {each["X-Fleetctl-Purpose"] for each in server.headers} == {"eval"}
    assert not any("logprobs" in each or "echo" in each for each in server.asked)


def test_no_more_requests_are_under_way_than_allowed(tmp_path: Path) -> None:
    together = threading.Barrier(3)

    def say(model: str, question: str, times: int) -> Any:
        if question != "Hello":
            together.wait(10)  # passes only when three are there at once
        return right(model, question, times)

    with peer(say) as server:
        ask(server, tmp_path, simple(12), EvalSpec(concurrency=3))
    assert server.most_at_once == 3


def test_samples_above_temperature_0_have_seeds_of_their_own(tmp_path: Path) -> None:
    with peer(lambda _, __, times: f"a{times % 2}") as server:
        run = ask(server, tmp_path, simple(2), EvalSpec(samples=4, temperature=0.7))
    asked = [each for each in server.asked if "seed" in each]
    assert len({each["seed"] for each in asked}) == len(asked) == 8
    assert paired_scores(run, run).stable == (0.5, 0.5)
    with peer(right) as again:
        ask(again, tmp_path, simple(2), EvalSpec(samples=4, temperature=0.7))
    assert {each.get("seed") for each in again.asked} == {each.get("seed") for each in server.asked}


@pytest.mark.parametrize(("wrong_times", "failed"), [(0, ()), (2, ()), (3, ("m",))])
def test_a_must_pass_item_fails_only_when_two_repetitions_fail_too(
    wrong_times: int, failed: tuple[str, ...], tmp_path: Path
) -> None:
    items = golden({"id": "m", "input": "q", "expected": "a", "tags": ["must_pass"]})
    with peer(lambda _, __, times: "b" if times < wrong_times else "a") as server:
        run = ask(server, tmp_path, items)
    assert must_pass_failed(run) == failed
    assert summarize(run)["accuracy"] == (0.0 if wrong_times else 1.0)


@pytest.mark.parametrize(("right_times", "failed"), [(1, ("m",)), (2, ("m",)), (3, ())])
def test_a_must_pass_item_with_several_samples_is_right_in_more_than_half(
    right_times: int, failed: tuple[str, ...], tmp_path: Path
) -> None:
    items = golden({"id": "m", "input": "q", "expected": "a", "tags": ["must_pass"]})
    spec = EvalSpec(samples=4, temperature=0.7, concurrency=1)
    with peer(lambda _, __, times: "a" if times < right_times else "b") as server:
        run = ask(server, tmp_path, items, spec)
    assert must_pass_failed(run) == failed
    assert len([each for each in server.asked if "seed" in each]) == 4


def test_a_busy_server_is_asked_again_and_a_refusal_is_not(tmp_path: Path) -> None:
    def say(_: str, question: str, times: int) -> Any:
        busy = {"q0": 503 if times == 0 else "a0", "q1": 400}
        return busy.get(question, "a2")

    with peer(say) as server:
        run = ask(server, tmp_path, spec=EvalSpec(max_missing=1))
    assert [each.error for each in run.samples if each.error] != []
    assert run_faults(run) == ()
    asked = [each["messages"][0]["content"] for each in server.asked]
    assert (asked.count("q0"), asked.count("q1")) == (2, 1)
    found = summarize(run)
    assert (found["missing"], found["accuracy"]) == (1, 0.6667)


@pytest.mark.parametrize(
    ("say", "who", "says"),
    [
        (lambda *_: 404, "", "status 404"),
        (lambda *a: 500 if a[1] == "q1" else "a", "", "1 of 3 items"),
        (lambda *a: {"choices": []} if a[1] == "q1" else "a", "", "another form"),
        (right, "tiny", "answers came from `tiny`"),
    ],
)
def test_a_run_that_proves_nothing_is_an_error_of_the_pair_and_never_a_pass(
    say: Any, who: str, says: str, tmp_path: Path
) -> None:
    with peer(say) as server:
        server.answers_as = who
        found = code(
            lambda: asyncio.run(
                evaluate_pair(
                    target(server),
                    target(server, CANARY),
                    simple(3),
                    EvalSpec(),
                    eval_context(tmp_path),
                )
            )
        )
    assert found[0] in {"FC4501", "FC4503"}
    assert says in found[1]


def test_an_engine_that_changes_meanwhile_proves_nothing(tmp_path: Path) -> None:
    def say(model: str, question: str, times: int) -> Any:
        server.fingerprint = "engine-2" if question == "q2" else server.fingerprint
        return right(model, question, times)

    with peer(say) as server:
        found = code(lambda: ask(server, tmp_path))
    assert found[0] == "FC4502"


def test_stable_is_asked_once_and_its_answers_are_used_again(tmp_path: Path) -> None:
    place = eval_context(tmp_path)

    def pair(server: Peer, serving: str = "0.32") -> tuple[EvalRun, EvalRun]:
        old, new = (replace(target(server, each), serving=serving) for each in (STABLE, CANARY))
        return asyncio.run(evaluate_pair(old, new, simple(3), EvalSpec(), place))

    with peer(right) as server:
        first, _ = pair(server)
        assert not pair(server, "0.99")[0].cached  # the fingerprint tells of its flags alone
        before = len(server.asked)
        again, canary = pair(server)
        asked = [each["model"] for each in server.asked[before:]]
        assert (asked.count(STABLE), asked.count(CANARY)) == (1, 3 + PROBES)
        assert (again.cached, canary.cached, again.samples) == (True, False, first.samples)
        assert place.store.read(again.id).serving == "0.32"
        server.fingerprint = "engine-2"
        before = len(server.asked)
        assert not pair(server)[0].cached
        assert len(server.asked) - before == 2 * (3 + PROBES)


def test_nobody_there_is_an_error_that_says_so(tmp_path: Path) -> None:
    with peer(right) as server:
        pass
    found = code(lambda: ask(server, tmp_path))
    assert found[0] == "FC4501"
    assert "cannot be reached" in found[1]


JUDGED = {"id": "j", "input": "q0", "expected": "a0", "metric": "judge", "context": "in 3 days"}


@pytest.mark.parametrize(
    ("verdict", "accuracy", "missing"),
    [("YES", 1.0, 0), ("no, wrong", 0.0, 0), ("Perhaps", None, 1)],
)
def test_a_judge_says_yes_or_no_and_anything_else_is_no_score(
    verdict: str, accuracy: float | None, missing: int, tmp_path: Path
) -> None:
    with peer(lambda *_: "in 4 days") as server, peer(lambda *_: verdict) as court:
        spec = EvalSpec(judge=JudgeSpec(court.url, "critic", "env:JUDGE"))
        run = ask(server, tmp_path, golden(JUDGED), spec)
    found = summarize(run)
    assert (found["accuracy"], found["missing"]) == (accuracy, missing)
    assert found["hallucination_rate"] == (1.0 if not missing else found["hallucination_rate"])
    assert bool(run_faults(run)) == bool(missing)
    assert all("the judge said neither YES nor NO" in each for each in run_faults(run))
    [asked] = court.asked
    assert asked["temperature"] == 0
    assert "in 4 days" in asked["messages"][0]["content"]
    assert court.headers[0]["Authorization"] == "Bearer s3cret"


def test_without_a_judge_that_answers_nothing_is_scored(tmp_path: Path) -> None:
    with peer(right) as server:
        with peer(right) as gone:
            pass
        spec = EvalSpec(judge=JudgeSpec(gone.url, "critic", ""))
        assert code(lambda: ask(server, tmp_path, golden(JUDGED), spec))[0] == "FC4510"
        with peer(lambda *_: "YES") as court:
            court.answers_as = "another"
            spec = EvalSpec(judge=JudgeSpec(court.url, "critic", ""))
            found = code(lambda: ask(server, tmp_path, golden(JUDGED), spec))
        assert found == ("FC4510", f"`critic` at {court.url}: `another` answered in its place.")
        assert code(lambda: ask(server, tmp_path, golden(JUDGED)))[0] == "FC4511"
    assert list((tmp_path / "evals").glob("*")) == []


def test_a_damaged_file_is_named_and_a_missing_one_too(tmp_path: Path) -> None:
    with peer(right) as server:
        run = ask(server, tmp_path)
    store = eval_context(tmp_path).store
    assert code(lambda: store.read("run9"))[0] == "FC4504"
    with store.path(run.id).open("a", encoding="utf-8") as stream:
        stream.write('{"item": "i0", "scores": {"accuracy": 2}}\n')
    found = code(lambda: store.read(run.id))
    assert found[0] == "FC4505"
    assert "line 5" in found[1]
    assert list(store.runs()) == []
    with pytest.raises(EvalError):
        store.read(run.id)


def test_an_interrupted_evaluation_leaves_nothing_and_is_made_anew(tmp_path: Path) -> None:
    reached, go_on = threading.Event(), threading.Event()

    def say(model: str, question: str, times: int) -> Any:
        if question == "q1":
            reached.set()
            go_on.wait(10)
        return right(model, question, times)

    async def interrupted(server: Peer) -> None:
        work = asyncio.create_task(
            evaluate(target(server), simple(3), USUAL, eval_context(tmp_path))
        )
        await asyncio.to_thread(reached.wait, 10)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work

    with peer(say) as server:
        asyncio.run(interrupted(server))
        assert not (tmp_path / "evals").exists()
        go_on.set()
        assert run_faults(ask(server, tmp_path)) == ()
