"""I8: evidence is only ever appended, chained by hashes, and each verdict follows from its counts.
I4: one writer, whoever takes and loses the lease, and whenever.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fleet.errors import FleetError, LockHeldError
from fleet.gates.decide import Finding, Verdict
from fleet.gates.live import judge_live
from fleet.gates.offline import judge_paired
from fleet.gates.own_control import Usual
from fleet.gates.rows import Tally, Window
from fleet.gates.soak import judge_soaking, soaking
from fleet.gates.windows import Baseline
from fleet.history import Entry, LedgerEvent, Released, event_of
from fleet.history.doubts import check_evidence
from fleet.policies import UNITS, GateSpec
from runtime.ledger import chain
from runtime.ledger.file import FileLedger
from runtime.ledger.protocol import Lease
from tests.drawn import drawn, examples
from tests.fleet.rollouts.rollout_world import World, happen, stories

NOON = datetime(2031, 5, 1, 12, tzinfo=UTC)
KINDS = ("changed", "removed", "moved", "doubled", "forged")


def chained(events: Sequence[LedgerEvent]) -> list[bytes]:
    lines, previous = [], ""
    for seq, event in enumerate(events, 1):
        text, previous = chain.line(Entry(seq, NOON, event, "r", "ana", 1, previous, ""))
        lines.append(text)
    return lines


def of_a_story(story: list[tuple[str, Any]]) -> list[bytes]:
    world = World()
    for kind, what in story:
        happen(world, kind, what)
        world.tick()
    return chained([each.event for each in world.entries])


@drawn
@given(story=stories, kind=st.sampled_from(KINDS), chance=st.randoms(use_true_random=False))
@settings(max_examples=examples(40, 120))
def test_whatever_is_done_to_an_entry_within_a_ledger_is_found(
    story: list[tuple[str, Any]], kind: str, chance: Any
) -> None:
    lines = of_a_story(story)
    assert len(list(chain.entries(b"".join(lines), "here"))) == len(lines)
    at = chance.randrange(len(lines) - 1)  # what is cut off at the end only a copy tells
    damaged = list(lines)
    match kind:
        case "changed":  # and chained anew as far as its own hash goes
            old = chain.entry(lines[at][:-1], at + 1, "here")
            damaged[at] = chain.line(replace(old, by="eve", token=1))[0]
        case "removed":
            del damaged[at]
        case "moved":
            damaged.insert(chance.randrange(at + 1, len(lines)), damaged.pop(at))
        case "doubled":
            damaged.insert(at, lines[at])
        case _:
            before = chain.entry(lines[at][:-1], at + 1, "here")
            made = Released("acme-support")
            forged = Entry(before.seq + 1, NOON, made, "r", "eve", 1, before.hash, "")
            damaged.insert(at + 1, chain.line(forged)[0])
    with pytest.raises(FleetError) as found:
        list(chain.entries(b"".join(damaged), "here"))
    assert found.value.diagnostics[0].code == "FC5102"


@drawn
@given(story=stories, place=st.integers(0, 10**6), byte=st.integers(0, 255))
@settings(max_examples=examples(30, 80))
def test_any_changed_byte_of_any_ledger_is_found(
    story: list[tuple[str, Any]], place: int, byte: int
) -> None:
    content = bytearray(b"".join(of_a_story(story)))
    place %= len(content) - 1  # without the last newline the last line is torn, not changed
    assume(content[place] != byte)
    content[place] = byte
    with pytest.raises(FleetError):
        list(chain.entries(bytes(content), "here"))


# --- verdicts

METRICS = sorted({*UNITS} - {"accuracy_drop", "hallucination_rise"})
sides = st.builds(
    lambda requests, bad: (requests, min(bad, requests)), st.integers(0, 400), st.integers(0, 60)
)


def tally(gate: GateSpec, requests: int, bad: int) -> Tally:
    kinds = ("errors", "format", "truncated")
    names = (*kinds, f"late:{gate.name}")
    return Tally(requests, dict.fromkeys(names, bad), dict.fromkeys(names, requests))


@st.composite
def findings(draw: st.DrawFn) -> Finding:
    """What gates find: on golden sets, in traffic, and after the cut-over."""
    if draw(st.booleans()):
        gate = GateSpec("g", "accuracy_drop", 3, "pp", floor=draw(st.sampled_from([None, 0.5])))
        scores = st.sampled_from([0.0, 1.0]) if draw(st.booleans()) else st.floats(0, 1, width=16)
        pairs = draw(st.lists(st.tuples(scores, scores), min_size=1, max_size=60))
        failed = ["q"] * draw(st.sampled_from([0, 0, 1]))
        old, new = zip(*pairs, strict=True)
        return judge_paired(gate, old, new, must_pass_failed=failed)
    metric = draw(st.sampled_from(METRICS))
    gate = GateSpec("g", metric, draw(st.sampled_from([2, 5])), UNITS[metric][0], min_requests=50)
    seen = [
        Window(NOON, NOON, tally(gate, *draw(sides)), tally(gate, *draw(sides)), 50)
        for _ in range(draw(st.integers(1, 3)))
    ]
    if draw(st.booleans()):
        return judge_live(gate, seen)
    usual = {kind: Usual(0.02, requests=draw(st.integers(0, 500))) for kind in ("errors", "format")}
    return judge_soaking(soaking(gate), seen, Baseline(usual=usual))


def differs(finding: Mapping[str, Any]) -> str:
    data = {"alias": "a", "adapter": "v", "gate": "g", "finding": finding}
    (text,) = chained([event_of("gate_judged", data)])
    (found,) = check_evidence(chain.entries(text, "here"))
    return found.differs


@drawn
@given(finding=findings(), verdict=st.sampled_from(list(Verdict)))
@settings(max_examples=examples(50, 150))
def test_a_verdict_follows_from_its_counts_and_no_other_does(
    finding: Finding, verdict: Verdict
) -> None:
    assert differs(finding.plain()) == ""
    forged = replace(finding, verdict=verdict).plain()
    assert bool(differs(forged)) == (verdict is not finding.verdict)
    assert differs({**finding.plain(), "gate": "another"})


@drawn
@given(finding=findings(), chance=st.randoms(use_true_random=False))
@settings(max_examples=examples(50, 150))
def test_a_changed_figure_or_count_is_found(finding: Finding, chance: Any) -> None:
    plain = finding.plain()
    figures = [name for name in ("estimate", "lower", "upper", "value") if plain[name] is not None]
    for name in figures:
        assert differs({**plain, name: plain[name] + 0.01 * (1 + abs(plain[name]))})
        assert differs({**plain, name: None})
    if finding.estimate is None or "windows in which" in finding.reason:
        return  # nothing was counted, or a window that counts for nothing
    decisive = [name for name in ("bad", "requests", "items", "worse") if name in plain["counts"]]
    for name in decisive:
        counts = dict(plain["counts"])
        if isinstance(counts[name], list):
            at = chance.randrange(len(counts[name]))
            counts[name] = [each + (place == at) for place, each in enumerate(counts[name])]
        else:
            counts[name] += 1
        assert differs({**plain, "counts": counts}), (name, finding)


# --- one writer

steps = st.one_of(
    st.tuples(st.just("take"), st.sampled_from(["ana", "ben", "eve"])),
    st.tuples(st.sampled_from(["append", "renew", "give back"]), st.integers(0, 5)),
    st.tuples(st.just("wait"), st.sampled_from([1, 40, 61])),
)


@dataclass
class Writers:
    """Who has taken the lease of a ledger, and what a lease is worth by its definition."""

    ledger: FileLedger
    now: datetime = NOON
    taken: list[tuple[ExitStack, Lease]] = field(default_factory=list)
    ends: datetime = NOON
    held: bool = False
    written: list[int] = field(default_factory=list)

    def take(self, who: str) -> None:
        stack = ExitStack()
        try:
            lease = stack.enter_context(self.ledger.lease(who, 60))
        except LockHeldError:
            assert self.now < self.ends
            return
        assert self.now >= self.ends
        self.taken.append((stack, lease))
        self.ends, self.held = self.now + timedelta(seconds=60), True
        assert lease.token == len(self.taken)

    def use(self, what: str, which: int) -> None:
        stack, lease = self.taken[which % len(self.taken)]
        newest = lease.token == len(self.taken)
        if what == "give back":
            stack.close()
            self.ends, self.held = (self.now, False) if newest else (self.ends, self.held)
            return
        with nullcontext() if newest else pytest.raises(LockHeldError):
            if what == "append":
                self.ledger.append([event_of("note", {})], lease.token)
                self.written.append(lease.token)
            else:
                lease.renew()
                # One that was given back is nobody's, and whoever renews it holds nothing.
                self.ends = self.now + timedelta(seconds=60) if self.held else self.ends


@drawn
@given(st.lists(steps, min_size=4, max_size=20))
@settings(max_examples=examples(20, 60), deadline=None)
def test_only_the_holder_of_the_newest_lease_ever_writes(done: list[tuple[str, Any]]) -> None:
    with TemporaryDirectory() as folder:
        mine = Writers(FileLedger(Path(folder), run="r", by="b", clock=lambda: mine.now))
        for what, which in done:
            if what == "wait":
                mine.now += timedelta(seconds=which)
            elif what == "take":
                mine.take(which)
            elif mine.taken:
                mine.use(what, which)
        tokens = [each.token for each in mine.ledger.read()]
        assert tokens == mine.written == sorted(mine.written)
