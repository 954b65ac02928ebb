"""Evidence from golden sets and traffic: where nothing can be judged it is INCONCLUSIVE."""

import asyncio
import json
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from fleet.gates import Verdict, judge_paired
from fleet.history import GateJudged
from fleet.history.values import GateEvidence
from fleet.policies import BY_FORM, GateSpec, RolloutPolicy
from fleet.resources import State
from fleet.response_format import FormatKind, ResponseFormat
from fleet.rollouts.evidence import GateTrial
from fleet.spec import AdapterSpec, FleetSpec
from fleet.traffic import Sticky
from runtime.evals.context import EvalContext
from runtime.evals.store import EvalStore
from runtime.gates.evidence import JudgedGate, worth_recording
from runtime.gates.live import judge_traffic
from runtime.gates.offline import OfflineResult, judge_golden
from runtime.usage.read import UsageReader
from tests.fleet.planning.builders import adapter, digest_of, fleet, loaded, state
from tests.runtime.gateway.stage import NEW, OLD, OTHERS, raw_server, replica

NOON = datetime(2031, 5, 1, 12, tzinfo=UTC)
ANSWERS = GateSpec("answers", "accuracy_drop", 8, "pp")
ERRORS = GateSpec("errors", "error_rate_rise", 30, "pp", min_requests=5)
PACE = RolloutPolicy("standard", (50, 100), timedelta(minutes=12), timedelta(days=7), ("errors",))


def office(root: Path) -> EvalContext:
    return EvalContext(EvalStore(root / "evals"), lambda: NOON, lambda: uuid4().hex[:12], root)


def trial(percent: int = 0, *servers: str, **changes: Any) -> GateTrial:
    digests = {"adapter": digest_of(NEW), "stable": digest_of(OLD)}
    made = GateTrial(
        "acme-support", NEW, OLD, percent, NOON if percent else None, servers, servers,
        (ANSWERS,), (ERRORS,) if percent else (), digests,
    )  # fmt: skip
    return replace(made, **changes)


def declared(golden: str | None = "g.jsonl") -> FleetSpec:
    return fleet(adapter(NEW, golden=golden), known=[OLD], gates=[ANSWERS, ERRORS])


def golden_set(root: Path, metric: Any, expected: str = ".*") -> None:
    items = [{"id": f"q{n}", "input": f"ask {n}", "expected": expected} for n in range(40)]
    lines = [{"defaults": {"metric": metric}}, *items]
    text = "".join(json.dumps(each) + "\n" for each in lines)
    (root / "g.jsonl").write_text(text, encoding="utf-8")


async def judged(
    root: Path, url: str, given: GateTrial | None = None, **more: Any
) -> OfflineResult:
    live = State(urls={"s1": url})
    asked = given or trial(0, "s1")
    return await judge_golden(asked, more.get("fleet") or declared(), live, office(root))


def test_both_versions_are_asked_and_judged_pair_by_pair(tmp_path: Path) -> None:
    golden_set(tmp_path, {"regex": {}})

    async def scenario() -> None:
        async with replica(OLD, NEW) as ours:
            found = await judged(tmp_path, ours.url)
            (one,) = found.judged
            assert (one.finding.verdict, one.finding.counts["items"]) == (Verdict.PASS, 40)
            assert {each.adapter for each in found.events} == {OLD, NEW}
            assert one.runs == tuple(each.run for each in found.events)
            again = await judged(tmp_path, ours.url)
            assert again.judged[0].finding == one.finding

    asyncio.run(scenario())


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty golden set": (lambda root: (root / "g.jsonl").write_text(""), "No golden items"),
    "same id twice": (
        lambda root: (root / "g.jsonl").write_text(
            '{"id": "a", "input": "x", "expected": "y"}\n' * 2
        ),
        "Golden item given twice",
    ),
    "golden set gone": (lambda root: (root / "g.jsonl").unlink(), "A golden set cannot be read"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_golden_set_is_inconclusive_with_its_reason(tmp_path: Path, case: str) -> None:
    golden_set(tmp_path, "exact")
    spoil, said = WRONG[case]
    spoil(tmp_path)

    async def scenario() -> None:
        async with replica(OLD, NEW) as ours:
            (one,) = (await judged(tmp_path, ours.url)).judged
            assert (one.finding.verdict, one.failed) == (Verdict.INCONCLUSIVE, False)
            assert said in one.problem == one.finding.reason

    asyncio.run(scenario())


def test_a_version_that_is_not_loaded_or_unreachable_is_inconclusive(tmp_path: Path) -> None:
    golden_set(tmp_path, {"regex": {}})

    async def scenario() -> None:
        async with replica(OLD) as ours:
            (absent,) = (await judged(tmp_path, ours.url)).judged
            assert "No server answers under this name" in absent.problem
            (nowhere,) = (await judged(tmp_path, ours.url, trial(0))).judged
            assert "The version is not loaded" in nowhere.problem
        (down,) = (await judged(tmp_path, "http://127.0.0.1:9")).judged
        (undeclared,) = (await judged(tmp_path, ours.url, fleet=declared(golden=None))).judged
        assert "No golden set is declared" in undeclared.problem
        found = {each.finding.verdict for each in (absent, nowhere, down, undeclared)}
        assert found == {Verdict.INCONCLUSIVE}

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": OTHERS}, f"answers came from `{OTHERS}` instead of `{OLD}`"),
        ({"usage": 7}, "fleetctl itself failed [FC1311]: AttributeError at "),
        ({"model": "\ud83d"}, r"answers came from `\ud83d` instead of"),
    ],
)
def test_a_strange_answer_is_inconclusive_and_stops_nobody_else(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    golden_set(tmp_path, {"regex": {}})
    reply = {
        "model": OLD,
        "system_fingerprint": "f",
        "choices": [{"message": {"content": "smile \ud83d"}, "finish_reason": "stop"}],
    }
    body = json.dumps(reply | change).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n"
    answer = head + f"content-length: {len(body)}\r\n\r\n".encode() + body

    async def scenario() -> None:
        async with raw_server(answer) as (url, _):
            (one,) = (await judged(tmp_path, url)).judged
            assert one.finding.verdict is Verdict.INCONCLUSIVE
            assert said in one.problem
            assert one.problem.encode()  # the ledger can hold it

    asyncio.run(scenario())


def test_a_gate_that_scores_what_cannot_be_scored_so_is_inconclusive(tmp_path: Path) -> None:
    golden_set(tmp_path, {"regex": {}})
    given = trial(0, "s1", offline=(replace(ANSWERS, score="numeric"), ANSWERS))

    async def scenario() -> None:
        async with replica(OLD, NEW) as ours:
            wrong, right = (await judged(tmp_path, ours.url, given)).judged
            assert "`numeric` cannot score `q0` of g.jsonl" in wrong.problem
            found = [each.finding.verdict for each in (wrong, right)]
            assert found == [Verdict.INCONCLUSIVE, Verdict.PASS]

    asyncio.run(scenario())


def test_the_form_that_an_adapter_declares_is_asked_of_a_golden_set(tmp_path: Path) -> None:
    golden_set(tmp_path, {"regex": {}})
    by_form = replace(ANSWERS, score=BY_FORM)
    given, bare = trial(0, "s1", offline=(by_form,)), declared()
    only_old = ResponseFormat(FormatKind.REGEX, "hazel-.*")  # how the old version begins
    own = replace(bare.adapters["acme-support"], format=only_old)
    keeps = replace(own, format=ResponseFormat(FormatKind.REGEX, "(?s).+"))

    async def verdict(url: str, made: AdapterSpec) -> JudgedGate:
        what = replace(bare, adapters={"acme-support": made})
        return (await judged(tmp_path, url, given, fleet=what)).judged[0]

    async def scenario() -> None:
        async with replica(OLD, NEW) as ours:
            found = [await verdict(ours.url, each) for each in (own, keeps)]
            assert [each.finding.verdict for each in found] == [Verdict.FAIL, Verdict.PASS]
            assert len({each.digests["terms"] for each in found} | {by_form.terms}) == 3
            none = await verdict(ours.url, bare.adapters["acme-support"])
            assert none.finding.verdict is Verdict.INCONCLUSIVE
            assert "the adapter declares no `format`" in none.problem

    asyncio.run(scenario())


def row(minute: float, version: str, status: int = 200, alias: str = "acme-support") -> str:
    moment = NOON + timedelta(minutes=minute)
    made: dict[str, Any] = {"time": moment.isoformat(timespec="milliseconds"), "server": "s1"}
    made |= {"alias": alias, "version": version, "status": status, "latency_s": 0.1}
    return json.dumps(made, separators=(",", ":"))


def logged(state_dir: Path, *rows: str) -> None:
    folder = state_dir / "gateways/main"
    folder.mkdir(parents=True)
    file = folder / "usage.jsonl"
    file.write_text("\n".join(rows) + '\n{"time": "torn', encoding="utf-8")
    os.utime(file, (NOON.timestamp(), NOON.timestamp()))


def test_live_gates_count_the_requests_of_the_stage_and_of_no_one_else(tmp_path: Path) -> None:
    logged(
        tmp_path,
        *(row(-1, NEW, 500) for _ in range(9)),  # before the stage
        *(row(1, NEW, 500) for _ in range(12)),
        *(row(1, OLD) for _ in range(12)),
        *(row(1, OTHERS, 500, "globex-dates") for _ in range(99)),
    )
    live = state(loaded(NEW, "s1"), loaded(OLD, "s1"))
    end = NOON + timedelta(minutes=5)
    (one,) = judge_traffic(trial(50, "s1"), PACE, live, (), UsageReader(tmp_path), end)
    event = one.event(NOON)
    assert isinstance(event, GateJudged)
    assert (one.finding.verdict, event.since) == (Verdict.FAIL, NOON)
    assert sum(one.finding.counts["bad"]) == 12  # type: ignore[arg-type]


def test_a_user_whose_requests_all_fail_is_one_finding_and_not_twelve(tmp_path: Path) -> None:
    def by(user: str, line: str) -> str:
        return line.replace("{", '{"unit":"' + user + '",', 1)

    ana = [by("ana", row(1 + n / 60, NEW, 500)) for n in range(12)]
    others = [by(f"u{n}", row(1, OLD)) for n in range(12)]
    logged(tmp_path, *ana, *others, row(1, OLD))
    live = state(loaded(NEW, "s1"), loaded(OLD, "s1"))
    asked = trial(50, "s1", sticky=Sticky.SESSION)
    (one,) = judge_traffic(
        asked, PACE, live, (), UsageReader(tmp_path), NOON + timedelta(minutes=5)
    )
    assert one.finding.verdict is Verdict.INCONCLUSIVE
    assert "12 of 12 bad" in one.finding.reason
    assert "of 1 and 13 users (1 requests name no user and count one by one)" in one.finding.reason


def test_a_stage_whose_start_nobody_knows_or_without_requests_is_inconclusive(
    tmp_path: Path,
) -> None:
    live = state(loaded(NEW, "s1"))
    unknown = replace(trial(50, "s1"), since=None)
    (one,) = judge_traffic(unknown, PACE, live, (), UsageReader(tmp_path), NOON)
    assert "since when" in one.problem
    (silent,) = judge_traffic(trial(50, "s1"), PACE, live, (), UsageReader(tmp_path), NOON)
    assert {one.finding.verdict, silent.finding.verdict} == {Verdict.INCONCLUSIVE}


def test_a_clock_that_went_backwards_counts_nothing_and_passes_nothing(tmp_path: Path) -> None:
    logged(tmp_path, *(row(-5, NEW) for _ in range(50)), *(row(-5, OLD) for _ in range(50)))
    live = state(loaded(NEW, "s1"), loaded(OLD, "s1"))
    earlier = NOON - timedelta(minutes=1)
    (one,) = judge_traffic(trial(50, "s1"), PACE, live, (), UsageReader(tmp_path), earlier)
    assert one.finding.verdict is Verdict.INCONCLUSIVE


def test_rows_are_found_by_alias_and_time_and_damaged_lines_are_counted(tmp_path: Path) -> None:
    logged(tmp_path, row(0, NEW), row(-90, NEW), row(0, OTHERS, alias="globex-dates"))
    rows, since = UsageReader(tmp_path), NOON - timedelta(hours=1)
    assert [each["version"] for each in rows.rows(since, "acme-support")] == [NEW]
    assert (len(list(rows.rows(since))), rows.damaged) == (2, 1)
    assert list(UsageReader(tmp_path / "elsewhere").rows(since)) == []


@pytest.mark.parametrize(
    ("change", "minutes", "worth"),
    [
        ({}, 0, False),
        ({}, 90, False),  # nothing new was counted
        ({"counts": {"items": 99.0}}, 1, False),
        ({"counts": {"items": 99.0}}, 60, True),
        ({"verdict": Verdict.FAIL}, 0, True),
        ({"parameters": {"margin": 0.01, "floor": 0.0}}, 0, True),  # another limit is declared
        ({"metric": "hallucination_rise"}, 0, True),
    ],
)
def test_what_is_worth_a_line_in_the_ledger(
    change: dict[str, Any], minutes: int, *, worth: bool
) -> None:
    finding = judge_paired(ANSWERS, [1.0] * 40, [1.0] * 40)
    digests = {**trial().digests, "base": "s1=b s2=b"}
    known = GateEvidence(
        "acme-support", NEW, "answers", finding, digests, NOON, 1,
        stable=OLD, percent=0, fingerprint="", since=NOON,
    )  # fmt: skip
    new = JudgedGate(trial(0, "s1", digests=digests), replace(finding, **change), {})
    now = NOON + timedelta(minutes=minutes)
    assert worth_recording(new, known, now, timedelta(hours=1)) is worth
    assert worth_recording(new, None, now, timedelta(hours=1))
    for base, is_new in (("s1=another", True), ("s1=b", worth)):
        other = replace(new, trial=replace(new.trial, digests={**digests, "base": base}))
        assert worth_recording(other, known, now, timedelta(hours=1)) is is_new
