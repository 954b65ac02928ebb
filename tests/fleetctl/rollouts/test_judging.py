"""A version that failed and has no earlier one to go back to: nobody else waits for it."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.gates.decide import Verdict
from fleet.gates.live import judge_live
from fleet.gates.offline import judge_paired
from fleet.gates.rows import Tally, Window
from fleet.history import EvalFinished, event_of
from fleet.resources import State
from fleetctl.wiring import open_workspace
from runtime.gates.evidence import JudgedGate
from runtime.gates.offline import OfflineResult
from runtime.gates.tick import Evaluations
from runtime.gateway.admin.state_dir import read_table
from runtime.gateway.control.control import LocalGateways
from runtime.gateway.table.table import RoutingTable
from runtime.operations.rollouts import gate_failures
from runtime.operations.rounds import judge
from runtime.operations.rounds.rounds import RoundParts
from tests.fleet.rollouts.gate_trials import ACCURACY, declared
from tests.fleetctl.webhook import webhook
from tests.runtime.gates.test_evidence import ERRORS, NOON, trial
from tests.runtime.gateway.stage import NEW, OLD, alias

LATER, EARLIER = "birch-faq-tiny-v1.1.0", "birch-faq-tiny-v1.0.0"


def failed(name: str, adapter: str, stable: str) -> JudgedGate:
    counts = Tally(50, {"errors": 50}), Tally(50)
    finding = judge_live(ERRORS, [Window(NOON, NOON, *counts)])
    assert finding.verdict is Verdict.FAIL
    tried = trial(100, "s1", alias=name, adapter=adapter, stable=stable)
    return JudgedGate(replace(tried, since=NOON), finding, {})


def test_nobody_waits_for_a_version_that_cannot_be_rolled_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = open_workspace(tmp_path, None, {}, tmp_path / ".fleetctl")
    table = RoutingTable(
        revision=1,
        servers={"s1": "http://127.0.0.1:9"},
        aliases={
            "acme-support": alias("acme", (NEW, 100, ("s1",)), (OLD, 0, ())),  # held nowhere
            "birch-faq": alias("birch", (LATER, 100, ("s1",)), (EARLIER, 0, ("s1",))),
        },
    )
    both = [failed("acme-support", NEW, OLD), failed("birch-faq", LATER, EARLIER)]

    async def scenario() -> tuple[gate_failures.JudgingRound, RoutingTable]:
        gateways = LocalGateways(workspace.state_dir)
        await gateways.publish(table)
        done = await gate_failures.roll_back_failed(workspace, both, gate_failures.JudgingRound())
        now, _ = await gateways.read_table()
        await gateways.close()
        return done, now

    done, now = asyncio.run(scenario())
    assert (done.stuck, done.moved, done.code) == (True, True, gate_failures.FAILED)
    assert done.failed == ("acme-support", "birch-faq")
    shares = {
        name: {each.adapter: each.percent for each in entry.shares}
        for name, entry in now.aliases.items()
    }
    assert shares["acme-support"] == {NEW: 100, OLD: 0}  # better a bad answer than none
    assert shares["birch-faq"] == {LATER: 0, EARLIER: 100}
    rolled = [
        each.document()["alias"]
        for each in workspace.ledger.open().read()
        if each.event.kind == "rolled_back"
    ]
    assert rolled == ["birch-faq"]
    said = capsys.readouterr().err
    assert "2.1.0" in said
    assert "not resident" in said
    assert "Rolled back: birch-faq back on 1.0.0" in said


def test_nobody_s_traffic_waits_for_a_webhook_or_for_another_s_smoke_test(tmp_path: Path) -> None:
    """Both flips are there before the first notice is taken, and it is taken last of all."""
    workspace = open_workspace(tmp_path, None, {}, tmp_path / ".fleetctl")
    names = ("acme-support", NEW, OLD), ("birch-faq", LATER, EARLIER)
    seen: list[set[str]] = []

    def arrived() -> None:
        table = read_table(workspace.state_dir)
        assert table is not None
        seen.append({
            name for name, each in table.aliases.items()
            if [share.percent for share in each.shares] == [0, 100]
        })  # fmt: skip

    async def scenario(url: str) -> gate_failures.JudgingRound:
        (tmp_path / "fleet.yaml").write_text(
            f"fleet: f\nnotify: {{webhook: {url}}}\n", encoding="utf-8"
        )
        gateways = LocalGateways(workspace.state_dir)
        await gateways.publish(
            RoutingTable(
                revision=1,
                servers={"s1": "http://127.0.0.1:9"},
                aliases={
                    name: alias(name.partition("-")[0], (new, 100, ("s1",)), (old, 0, ("s1",)))
                    for name, new, old in names
                },
            )
        )
        await gateways.close()
        both = [failed(*each) for each in names]
        return await gate_failures.roll_back_failed(workspace, both, gate_failures.JudgingRound())

    with webhook(arrived) as hook:
        done = asyncio.run(scenario(hook.url))
    assert (done.stuck, done.failed) == (False, ("acme-support", "birch-faq"))
    assert seen == [{"acme-support", "birch-faq"}] * 2
    told = [
        each.document()["alias"]
        for each in workspace.ledger.open().read()
        if each.event.kind == "notified"
    ]
    assert sorted(told) == ["acme-support", "birch-faq"]


def test_what_was_evaluated_while_the_ledger_went_away_is_not_asked_again(tmp_path: Path) -> None:
    """It is queued, with its PASS, and raises nobody before it is in the ledger."""
    workspace = open_workspace(tmp_path, None, {}, tmp_path / ".fleetctl", given=declared())
    workspace.ledger.open().append([event_of("note", {"text": "the first entry"})])
    tried = trial(0, "s1", alias="acme-support", adapter=NEW, stable=OLD)
    found = judge_paired(ACCURACY, [1.0] * 300, [1.0] * 300, must_pass_failed=())
    assert found.verdict is Verdict.PASS
    run = EvalFinished("r1", "acme-support", NEW, "gate")
    ended = OfflineResult((JudgedGate(tried, found, {}),), (run,))
    home = workspace.state_dir / "ledger.jsonl"

    async def scenario() -> tuple[Evaluations, gate_failures.JudgingRound]:
        evaluations, done = Evaluations(), gate_failures.JudgingRound()
        work = asyncio.get_running_loop().create_future()
        work.set_result(ended)
        evaluations.running["acme-support", NEW] = asyncio.ensure_future(work)
        aside = home.rename(tmp_path / "aside")
        home.mkdir()
        for key, result in await evaluations.finished():
            done = await judge._take_evaluation(
                workspace, State({}), evaluations, RoundParts(workspace.emit), done, key, result
            )
        home.rmdir()
        aside.rename(home)
        return evaluations, done

    evaluations, done = asyncio.run(scenario())
    assert evaluations.running == {}
    assert done.away is not None
    kinds = [
        each.event.kind for each in workspace.ledger.open().read()
    ]  # which writes down what is queued
    assert kinds == ["note", "eval_finished", "gate_judged"]
    (evidence,) = workspace.ledger.history().evidence["acme-support"]
    assert (evidence.gate, evidence.finding.verdict) == ("accuracy", Verdict.PASS)
