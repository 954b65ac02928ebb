"""What is written down of a run, and what later runs make of it."""

import asyncio
import json
import shutil
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from fleet.evals.records import drifts, eval_records
from fleet.evals.run import EvalTarget, Purpose
from fleet.spec import EvalSpec
from runtime.evals.context import EvalContext
from runtime.evals.evaluate import evaluate
from runtime.evals.record import eval_event, record
from runtime.ledger.file import FileLedger
from runtime.library.layout import folder_digest
from tests.runtime.evals.scripted import NOON, STABLE, Peer, eval_context, peer, simple

LIBRARY = Path(__file__).parents[3] / "examples" / "quickstart" / "models"


class Desk:
    """A project with one version in its library, and a clock that goes a week a run."""

    def __init__(self, folder: Path) -> None:
        self.library = folder / "models"
        self.version = self.library / "adapters" / "acme" / "support-v1.0.0"
        shutil.copytree(LIBRARY / "adapters" / "acme" / "support-v2.1.0", self.version)
        self.context: EvalContext = eval_context(folder)
        weeks = count()
        self.ledger = FileLedger(
            folder, run="r", by="me", clock=lambda: NOON + next(weeks) * timedelta(days=7)
        )

    def evaluate(
        self,
        server: Peer,
        purpose: Purpose = "anchor",
        spec: EvalSpec | None = None,
        *,
        items: int = 40,
    ) -> dict[str, Any]:
        digest = folder_digest(self.version)
        target = EvalTarget(server.url, STABLE, STABLE, digest, "acme-support")
        run = asyncio.run(
            evaluate(target, simple(items), spec or EvalSpec(), self.context, purpose=purpose)
        )
        event = record(run, self.context.store, self.ledger, self.library, "0.32.0 abc")
        return dict(event.summary)

    def standings(self) -> list[tuple[str, str]]:
        past = eval_records(self.ledger.read())["acme-support"]
        return [(each.rule, each.standing.value) for each in drifts(past, STABLE)]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def answers(wrong: int) -> Any:
    """Right, but for the first so many items."""

    def say(_: str, question: str, __: int) -> str:
        number = question.removeprefix("q")
        return "b" if number.isdigit() and int(number) < wrong else f"a{number}"

    return say


def own_page(desk: Desk, correct: int, n: int = 40) -> None:
    """Put the library's own evaluation on the set beside the version."""
    page = {"n": n, "accuracy": correct / n, "golden_sha256": simple(40).digest}
    (desk.version / "evals" / "own.json").write_text(json.dumps(page), encoding="utf-8")


def test_a_result_far_below_the_library_s_own_is_a_finding_and_no_baseline(desk: Desk) -> None:
    own_page(desk, 40)
    with peer(answers(40)) as server:
        first = desk.evaluate(server)
        assert (first["accuracy"], first["library"]) == (0.0, {"good": 40.0, "n": 40})
        assert desk.standings() == [("library", "serving")]
        assert not [*(desk.version / "evals").glob("*after_training*")]
        server.say = answers(1)
        good = desk.evaluate(server)
        assert "compared" not in good
        assert desk.standings() == [("library", "steady")]
        assert [*(desk.version / "evals").glob("*after_training*")]
        server.say = answers(0)
        assert desk.evaluate(server)["compared"]["accuracy"] == {"changed": 1, "worse": 0, "n": 40}
    past = eval_records(desk.ledger.read())["acme-support"]
    found = next(drift for drift in drifts(past[:1], STABLE) if drift.rule == "library")
    assert "The likely cause is wrong bytes" in found.reason


@pytest.mark.parametrize("page", ["{}", "[1]", "torn", '{"golden_sha256": "other", "n": 40}'])
def test_a_page_of_another_set_or_without_figures_says_nothing(desk: Desk, page: str) -> None:
    (desk.version / "evals" / "own.json").write_text(page, encoding="utf-8")
    with peer(answers(40)) as server:
        assert "library" not in desk.evaluate(server)
    assert desk.standings() == []


def test_answers_that_change_are_told_from_noise(desk: Desk) -> None:
    with peer(answers(2)) as server:
        first = desk.evaluate(server)
        assert "compared" not in first
        assert desk.evaluate(server, "aa")["compared"]["accuracy"]["changed"] == 0
        assert desk.standings() == []
        server.say = answers(4)
        assert desk.evaluate(server)["compared"] == {
            "accuracy": {"n": 40, "changed": 2, "worse": 2}
        }
        assert desk.standings() == [("anchor", "steady")]
        server.say = answers(20)
        desk.evaluate(server)
        assert desk.standings() == [("anchor", "serving")]


def test_what_a_fake_engine_answered_is_no_result_after_training(desk: Desk) -> None:
    with peer(answers(40)) as server:
        server.fingerprint = "fleetctl-0123abcd+fake"
        assert desk.evaluate(server)["made_up"]
        server.say = answers(39)
        assert desk.evaluate(server)["compared"]["accuracy"]["changed"] == 1
        assert not list(desk.version.glob("evals/x.*"))
        server.say, server.fingerprint = answers(0), "fleetctl-0123abcd"
        assert "compared" not in desk.evaluate(server)
        server.say = answers(20)
        assert desk.evaluate(server)["compared"]["accuracy"]["worse"] == 20
    kept = json.loads((desk.version / "evals" / "x.after_training.json").read_text("utf-8"))
    assert kept["accuracy"] == 1.0


def test_the_run_that_let_a_version_in_is_its_result_after_training(desk: Desk) -> None:
    with peer(answers(0)) as server:
        target = EvalTarget(server.url, STABLE, STABLE, folder_digest(desk.version), "acme-support")
        run = asyncio.run(evaluate(target, simple(40), EvalSpec(), desk.context))
        desk.ledger.append([eval_event(run, desk.context.store)])
        server.say = answers(20)
        assert desk.evaluate(server)["compared_with"] == run.id
        assert desk.evaluate(server, "aa")["compared"]["accuracy"]["changed"] == 0
    assert desk.standings() == [("anchor", "serving")]
    kept = json.loads((desk.version / "evals" / "x.after_training.json").read_text("utf-8"))
    assert (kept["run"], kept["accuracy"]) == (run.id, 1.0)


def test_the_result_after_training_stays_and_the_latest_is_beside_it(desk: Desk) -> None:
    before = folder_digest(desk.version)
    with peer(answers(0)) as server:
        desk.evaluate(server)
        server.say = answers(10)
        desk.evaluate(server)
        desk.evaluate(server)
    evals = desk.version / "evals"
    first = json.loads((evals / "x.after_training.json").read_text("utf-8"))
    latest = json.loads((evals / "x.anchor.json").read_text("utf-8"))
    assert (first["accuracy"], latest["accuracy"], first["n"]) == (1.0, 0.75, 40)
    assert first["accuracy_95_percent"][0] < 1.0
    assert folder_digest(desk.version) == before


@pytest.mark.parametrize(
    ("damaged", "standing"), [("store", "serving"), ("store and library", "unknown")]
)
def test_answers_that_were_tampered_with_are_not_compared_with(
    damaged: str, standing: str, desk: Desk
) -> None:
    with peer(answers(0)) as server:
        desk.evaluate(server)
        places = [desk.context.store.path("run1")]
        if "library" in damaged:
            places.append(desk.version / "evals" / "x.after_training.jsonl")
        for place in places:
            text = place.read_text("utf-8")
            place.write_text(text.replace('"accuracy": 1.0', '"accuracy": 0.0'), "utf-8")
        server.say = answers(30)
        desk.evaluate(server)
    assert desk.standings() == [("anchor", standing)]


def test_a_version_with_other_bytes_gets_no_result_of_this_one(desk: Desk) -> None:
    with peer(answers(0)) as server:
        target = EvalTarget(server.url, STABLE, STABLE, "0" * 64, "acme-support")
        run = asyncio.run(evaluate(target, simple(3), EvalSpec(), desk.context, purpose="anchor"))
    record(run, desk.context.store, desk.ledger, desk.library)
    assert not list((desk.version / "evals").glob("x.*"))


def test_answers_to_another_way_of_asking_are_compared_with_their_like(desk: Desk) -> None:
    with peer(answers(0)) as server:
        desk.evaluate(server, "gate", EvalSpec(samples=3, temperature=0.5))
        told = desk.evaluate(server)
        assert told["not_compared"] == (
            "it was asked in another way than run1; later runs are held against this one"
        )
        assert desk.standings() == [("anchor", "unknown")]
        server.say = answers(20)
        assert desk.evaluate(server)["compared_with"] == "run2"
        assert desk.standings() == [("anchor", "serving")]


def test_answers_to_an_edited_set_are_not_compared_and_that_is_said(desk: Desk) -> None:
    with peer(answers(0)) as server:
        desk.evaluate(server)
        told = desk.evaluate(server, items=39)
        assert told["not_compared"] == (
            f"{simple(1).file} was changed since run1; later runs are held against this one"
        )
        assert desk.standings() == [("anchor", "unknown")]
        assert desk.evaluate(server, items=39)["compared_with"] == "run2"
