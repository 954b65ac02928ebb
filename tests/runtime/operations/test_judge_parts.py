"""An evaluation that raises in a round is reported with its code, and the others are judged."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from fleet.gates import Verdict
from fleet.history import GateEvidence
from fleet.policies import RolloutPolicy
from fleet.spec import FleetSpec
from fleetctl.wiring import open_workspace
from runtime.gates.tick import Evaluations
from runtime.operations.rounds.judge import judge_round
from runtime.operations.rounds.rounds import RoundParts
from runtime.workspace import Workspace
from tests.fleet.planning.builders import DAY, adapter, fleet, loaded, route, state
from tests.runtime.gates.test_evidence import ANSWERS, golden_set
from tests.runtime.gateway.stage import NEW, OLD, OTHERS, raw_server, replica

LATER = "globex-dates-tiny-v1.1.0"
PACE = RolloutPolicy("standard", (10, 100), DAY, 7 * DAY, ("answers",))
CHOICE = {"message": {"content": "yes"}, "finish_reason": "stop"}
REPLY = {"model": OTHERS, "system_fingerprint": "f", "choices": [CHOICE], "usage": 7}
STRANGE = json.dumps(REPLY).encode()
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n"


def declared() -> FleetSpec:
    both = adapter(NEW, golden="g.jsonl"), adapter(LATER, golden="g.jsonl")
    return fleet(*both, known=[OLD, OTHERS], rollouts=[PACE], gates=[ANSWERS])


@asynccontextmanager
async def servers() -> AsyncIterator[dict[str, str]]:
    """Run the server of acme, and that of globex, whose answers have numbers for objects."""
    head = ANSWER + f"content-length: {len(STRANGE)}\r\n\r\n".encode()
    async with replica(OLD, NEW) as sound, raw_server(head + STRANGE) as (url, _):
        yield {"s1": sound.url, "s2": url}


def judged(root: Path, given: FleetSpec) -> tuple[Workspace, dict[str, GateEvidence]]:
    """Judge a round; return its workspace and the evidence of the aliases."""
    golden_set(root, {"regex": {}})
    workspace = open_workspace(root, None, {}, root / ".fleetctl", given=given)
    parts = RoundParts(workspace.emit)

    async def scenario() -> None:
        async with servers() as urls:
            live = state(
                route("acme-support", (NEW, 0, "s1"), (OLD, 100, "s1")),
                route("globex-dates", (LATER, 0, "s2"), (OTHERS, 100, "s2")),
                loaded(NEW, "s1"), loaded(OLD, "s1"), loaded(LATER, "s2"), loaded(OTHERS, "s2"),
            )  # fmt: skip
            live = replace(live, urls=urls)
            await judge_round(workspace, live, Evaluations(), parts, asyncio.Event())

    asyncio.run(scenario())
    assert parts.exit_code == 0
    return workspace, {name: one for name, (one,) in workspace.ledger.history().evidence.items()}


def test_an_evaluation_that_raises_tells_its_code_and_the_others_are_judged(tmp_path: Path) -> None:
    """Before, the reason was `AttributeError: 'int' object has no attribute ...`, no code."""
    _, found = judged(tmp_path, declared())
    assert found["acme-support"].finding.verdict is Verdict.PASS
    assert found["globex-dates"].finding.verdict is Verdict.INCONCLUSIVE
    reason = found["globex-dates"].finding.reason
    assert reason.startswith("fleetctl itself failed [FC1311]: AttributeError at ")
    assert "object has no" not in reason


def test_evaluations_that_cannot_be_made_are_verdicts_and_no_end_of_the_round(
    tmp_path: Path,
) -> None:
    """Before, FC4534 ended the round of judging for all aliases, with 0 entries."""
    given = declared()
    _, found = judged(tmp_path, replace(given, evals=replace(given.evals, through="gateway")))
    assert {one.finding.verdict for one in found.values()} == {Verdict.INCONCLUSIVE}
    assert ["[FC" in one.finding.reason for one in found.values()] == [True, True]
