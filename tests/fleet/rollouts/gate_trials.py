"""Evidence, marks and overrides about one alias, built as values for the pace's tests."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import date, datetime
from functools import cache

from fleet.gates.decide import Finding, Verdict
from fleet.gates.live import judge_live
from fleet.gates.rows import Tally, Window
from fleet.history.values import GateEvidence, History, MarkKind, RolloutMark
from fleet.policies import GateSpec, GoldenFacts, OverrideSpec, RolloutPolicy
from fleet.resources import Route
from fleet.rollouts.decide import decide_rollouts
from fleet.rollouts.targets import AliasTarget
from fleet.spec import FleetSpec
from tests.fleet.planning.builders import (
    DAY,
    NOON,
    adapter,
    digest_of,
    fleet,
    history,
    route,
    state,
)

ALIAS = "acme-support"
OLD, NEW, NEXT = (f"acme-support-tiny-v{each}" for each in ("2.1.0", "2.2.0", "2.3.0"))
ACCURACY = GateSpec("accuracy", "accuracy_drop", 3, "pp")
ERRORS = GateSpec("errors", "error_rate_rise", 2, "pp")
GATED = RolloutPolicy(
    "standard", (10, 50, 100), DAY, 7 * DAY, ("accuracy", "errors"), max_bake=2 * DAY
)
DECEMBER = date(2026, 12, 1)
GOLDEN = "golden/support.jsonl"
PASS, FAIL, UNSURE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE


def declared(
    target: str = NEW,
    *,
    rollout: RolloutPolicy = GATED,
    overrides: tuple[OverrideSpec, ...] = (),
    **fields: object,
) -> FleetSpec:
    made = fleet(
        adapter(target, golden=GOLDEN, **fields),  # type: ignore[arg-type]
        known=(OLD, NEW, NEXT),
        rollouts=[rollout],
        gates=[ACCURACY, ERRORS],
    )
    return replace(made, golden={GOLDEN: GoldenFacts("9" * 64, 300)}, overrides=overrides)


@cache
def finding(gate: str, verdict: Verdict, threshold: float | None = None) -> Finding:
    """Return one that follows from its counts, whose reason says what it is."""
    requests = {PASS: 5000, FAIL: 50, UNSURE: 5}[verdict]
    bad = {"errors": 50} if verdict is FAIL else {}
    windows = [Window(NOON, NOON, Tally(requests, bad), Tally(requests))]
    like = ACCURACY if gate == ACCURACY.name else replace(ERRORS, name=gate)
    limit = like.threshold if threshold is None else threshold
    found = judge_live(replace(ERRORS, name=gate, threshold=limit), windows)
    assert found.verdict is verdict
    return replace(found, metric=like.metric, reason=f"{verdict} said")


def evidence(
    gate: str,
    verdict: Verdict = PASS,
    *,
    adapter: str = NEW,
    stable: str = OLD,
    percent: int = 10,
    since: datetime = NOON,
    at: datetime = NOON,
    seq: int = 17,
    **digests: str,
) -> GateEvidence:
    known = {"adapter": digest_of(adapter), "stable": digest_of(stable)} | digests
    found = finding(gate, verdict)
    return GateEvidence(
        ALIAS, adapter, gate, found, known, at, seq,
        stable=stable, percent=percent, fingerprint="", since=since,
    )  # fmt: skip


def mark(
    word: MarkKind,
    since: datetime | None = NOON,
    at: datetime = NOON,
    who: str = NEW,
    percent: int | None = 10,
    until: datetime | None = None,
    seq: int = 18,
) -> RolloutMark:
    return RolloutMark(word, who, since, "we looked", "ana", at, percent, until, seq=seq)


def override(
    until: date = date(2026, 12, 1), *gates: str, accept: str = "", alias: str = ALIAS
) -> OverrideSpec:
    return OverrideSpec("fine", accept or digest_of(NEW)[:16], alias, gates, "agreed", "ben", until)


def past(
    percent: int | None = 10,
    *found: GateEvidence,
    marks: Iterable[RolloutMark] = (),
    entered: datetime = NOON,
    adapter: str = NEW,
    **fields: object,
) -> History:
    stages = [] if percent is None else [(adapter, percent, entered)]
    rejected = {each.digests["adapter"]: each for each in found if each.finding.verdict is FAIL}
    made = replace(
        history(stages=stages),
        evidence={ALIAS: tuple(sorted(found, key=lambda each: each.gate))} if found else {},
        rejected={ALIAS: rejected} if rejected else {},
        marks={ALIAS: tuple(marks)},
        answered_all=frozenset({OLD}),
    )
    return replace(made, **fields)  # type: ignore[arg-type]


def shared(new: int, old: int) -> Route:
    return route(ALIAS, (NEW, new, "s"), (OLD, old, "s"))


ALONE = route(ALIAS, (OLD, 100, "s"))


def wanted(
    live: Route, before: History, now: datetime = NOON + DAY, what: FleetSpec | None = None
) -> AliasTarget:
    return decide_rollouts(what or declared(), state(live), before, now).wanted[ALIAS]
