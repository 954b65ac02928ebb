"""Entries that still count answer as all entries do, wherever a checkpoint was made."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings

from fleet.alerting import Alert, AlertPhase, AlertRule, as_told, rollbacks, rollout_turns
from fleet.evals import drifts, eval_records
from fleet.history import (
    Entry,
    EvalFinished,
    Notification,
    Notified,
    StepFailed,
    clock_behind,
    fold_entries,
    is_due,
    standing_entries,
    tampered_evidence,
    undone_steps,
)
from fleet.history.apply_events import BackedUp, StepFinished, StepStarted
from fleet.history.rollout_events import DrillStarted, RetrainFinished
from fleet.resources import State
from fleet.rules import last_drills
from fleet.rules.due import trained
from plans.reports.status import status
from runtime.ledger.chain import LedgerPrefix
from runtime.ledger.checkpoint import EVERY, Checkpoint
from runtime.ledger.fallback import FallbackLedger
from runtime.ledger.file import FileLedger
from runtime.ledger.protocol import LedgerSnapshot
from runtime.ledger.replica import LedgerReplica
from runtime.rollback.drill import unfinished
from tests.bench.ledgers import life
from tests.drawn import drawn, examples
from tests.fleet.planning.builders import NOON, loaded, route
from tests.fleet.rollouts.rollout_world import World, happen, stories
from tests.runtime.ledger.test_checkpoint import claimed

NAMES = [f"acme-support{number}" for number in range(4)]
VERSIONS = [f"{name}-tiny-v1.0.0" for name in NAMES]
ADAPTERS = [loaded(version, "a") for version in VERSIONS]
ROUTES = [route(name, (version, 100, "a")) for name, version in zip(NAMES, VERSIONS, strict=True)]
ALERTS = [
    Alert(AlertRule.SLOW, name, 1.0, 1.0, NOON, "fleetctl why", phase=AlertPhase.FIRING)
    for name in NAMES
]
LIVE = State({item.address: item for item in ADAPTERS} | {item.address: item for item in ROUTES})


def evaluated(chance: Random) -> EvalFinished:
    """Draw an evaluation of any purpose."""
    number, purpose = chance.randrange(4), chance.choice(["rolling", "anchor", "gate", "aa"])
    levels = {"accuracy": {"good": chance.randrange(40), "n": 40}} if chance.random() < 0.9 else {}
    summary = {
        "valid": chance.random() < 0.9, "made_up": chance.random() < 0.1, "levels": levels,
        "golden": "g.jsonl", "golden_digest": chance.choice("abcdef"),
        "compared": {"accuracy": {"changed": 1, "worse": chance.randrange(9), "n": 40}},
    }  # fmt: skip
    run = f"{chance.getrandbits(40):x}"
    return EvalFinished(run, NAMES[number], VERSIONS[number], purpose, summary)


def ledger_of(seed: int, length: int) -> list[Entry]:
    """Return some weeks of a fleet, with a clock that is wrong at times and work that fails."""
    chance, found, now = Random(seed), list[Entry](), NOON  # noqa: S311 (not for secrets)
    for event in islice(life(LIVE, chance), length):
        more = [event]
        if chance.random() < 0.1:
            more.append(evaluated(chance))
        if chance.random() < 0.02:
            steps = f"load {ADAPTERS[chance.randrange(4)].address}"
            more.append(StepFailed("p", steps, steps[5:], "FC6101", "No", "No."))
        if chance.random() < 0.01:
            more.append(DrillStarted(chance.choice(NAMES), "t"))
        if chance.random() < 0.01:
            more.append(RetrainFinished(chance.choice(NAMES), chance.choice(VERSIONS)))
        if chance.random() < 0.05:
            what = chance.choice(["alert", "alert_resolved"])
            key = f"{chance.choice(ALERTS).id} {now.isoformat()}"
            more.append(Notified("", what, "operators", delivered=True, key=key))
        for one in more:
            now += timedelta(minutes=chance.randrange(20))
            wrong = timedelta(days=chance.choice([-2, 3])) if chance.random() < 0.01 else None
            at = now + wrong if wrong else now
            found.append(Entry(len(found) + 1, at, one, f"r{len(found) // 9}", "ana", 1, "", ""))
    return found


def answers(entries: Sequence[Entry], every: Sequence[Entry], now: datetime) -> Iterator[Any]:
    """Yield the answers of all that reads entries that count; `every`: all entries."""
    history = fold_entries(every)
    yield trained(entries)
    yield undone_steps(entries)
    yield last_drills(entries)
    yield sorted(drill.alias for drill in unfinished(entries))
    yield {
        (alias, version): drifts(found, version)
        for alias, found in eval_records(entries).items()
        for version in {record.adapter for record in found}
    }
    yield list(rollbacks(entries, now))
    yield list(rollout_turns(entries, now))
    yield as_told(ALERTS, (), entries, now)
    for entry in every:
        if isinstance(event := entry.event, Notified):
            about = Notification(event.event, event.alias, event.key or "", {})  # type: ignore[arg-type]
            yield is_due(entries, about, event.to, now)
    late = [clock_behind(entries, now - timedelta(hours=back)) for back in (0, 1, 30, 90)]
    yield [error and error.diagnostics for error in late]
    yield tampered_evidence(entries, history)
    document = status("f", LIVE, history, entries, None)
    yield document.get("last_apply"), document.get("backup")


def require_same(entries: list[Entry], cuts: Sequence[int]) -> None:
    """Check the answers at the end, with a checkpoint at every cut and after each other."""
    now = max(entry.time for entry in entries[-5:]) + timedelta(minutes=3)
    whole = standing_entries(entries, fold_entries(entries))
    wanted = list(answers(entries, entries, now))
    assert list(answers(whole, entries, now)) == wanted
    on, before = list[Entry](), 0
    for cut in cuts:
        kept = standing_entries(entries[:cut], fold_entries(entries[:cut]))
        assert list(answers([*kept, *entries[cut:]], entries, now)) == wanted
        assert standing_entries([*kept, *entries[cut:]], fold_entries(entries)) == whole
        on = standing_entries([*on, *entries[before:cut]], fold_entries(entries[:cut]))
        before = cut
        assert on == kept


@pytest.mark.parametrize("seed", range(4))
def test_weeks_of_a_fleet_are_answered_for_by_the_entries_that_count(seed: int) -> None:
    entries = ledger_of(seed, 900)
    assert len(standing_entries(entries, fold_entries(entries))) < len(entries) * 0.6
    require_same(entries, [1, 90, 400, 401, 700, len(entries)])


@drawn
@given(story=stories)
@settings(max_examples=examples(15, 80))
def test_a_story_of_rollouts_is_answered_for_by_the_entries_that_count(
    story: list[tuple[str, Any]],
) -> None:
    world = World()
    for kind, what in story:
        happen(world, kind, what)
        world.tick()
    days = [replace(e, time=e.time + e.seq * timedelta(hours=9)) for e in world.entries]
    for entries in (world.entries, days):
        require_same(entries, [1, len(entries) // 2, len(entries)])


def test_a_route_that_was_begun_before_a_checkpoint_and_set_after_it_is_told(
    tmp_path: Path,
) -> None:
    begin, ends = ROUTES[0].address, NOON + timedelta(days=9)
    document = {"verb": "set_route", "route": {}}
    entries = [
        Entry(1, NOON, StepStarted("p", f"set {begin}", begin, document), "r", "a", 1, "", ""),
        Entry(2, ends, BackedUp(str(tmp_path)), "r", "a", 1, "", ""),
    ]
    kept = standing_entries(entries, fold_entries(entries[1:]))
    assert kept == entries
    done = Entry(3, ends, StepFinished(f"set {begin}", begin, "done"), "r", "a", 1, "", "")
    assert standing_entries([*kept, done], fold_entries(entries[1:])) == [*entries, done]


class Unread(FileLedger):
    """A ledger whose entries must not all be read."""

    def since(self, known: LedgerPrefix) -> Any:
        assert known.seq, "all of the ledger is read"
        return super().since(known)


def test_with_a_checkpoint_neither_the_fold_nor_what_counts_reads_the_whole_ledger(
    tmp_path: Path,
) -> None:
    claimed(tmp_path, *(f"alias-{number}" for number in range(EVERY + 3)))
    folder = tmp_path / "home"
    whole = FileLedger(folder, run="r", by="me", clock=lambda: NOON)
    made = Checkpoint().then(whole.read()).sifted()
    assert FallbackLedger(whole, LedgerReplica(tmp_path), []).standing() == made.entries()
    claimed(tmp_path, "one-more")
    home = Unread(folder, run="r", by="me", clock=lambda: NOON)
    snapshot = LedgerSnapshot.of(FallbackLedger(home, LedgerReplica(tmp_path), []))
    assert snapshot.history() == fold_entries(whole.read())
    assert [entry.line for entry in snapshot.standing()][-1] == whole.read()[-1].line
    with pytest.raises(AssertionError, match="all of the ledger is read"):
        len(snapshot.entries)
