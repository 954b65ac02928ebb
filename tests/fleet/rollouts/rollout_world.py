"""One alias whose plans are carried out and written down, and all that may happen to it.

Versions are declared, judged, approved, aborted, rolled back and released; the engine, the golden
set and a limit change under them; and one of them has the bytes of another.
"""

from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from fleet.codec import plain
from fleet.gates.decide import Verdict
from fleet.history.events import Entry, event_of
from fleet.history.fold import fold_entries
from fleet.history.values import History
from fleet.policies import GateSpec, GoldenFacts, RolloutPolicy
from fleet.resources import Route, Server, Share, State
from fleet.rollouts.decide import decide_rollouts
from fleet.rollouts.evidence import engine_of
from fleet.rollouts.targets import AliasTarget, Phase
from fleet.spec import FleetSpec
from fleet.steps import SetRoute
from tests.fleet.planning.builders import NOON, digest_of, facts, loaded, route, state
from tests.fleet.rollouts.gate_trials import (
    ACCURACY,
    ALIAS,
    ERRORS,
    GATED,
    GOLDEN,
    NEW,
    NEXT,
    OLD,
    declared,
    finding,
    override,
)

HOUR = timedelta(hours=1)
WEIGHTS = (0, *GATED.weights)
TWIN = "acme-support-tiny-v2.4.0"
"""A version with the bytes of `NEW`."""
SERVER = Server("s", "tiny", "laptop", ("cpu0",), 8100, "ab12")
GATES = ("accuracy", "errors")


def bytes_of(name: str) -> str:
    return digest_of(NEW if name == TWIN else name)


@dataclass
class World:
    """A fleet that does what its plans say, and writes it down."""

    now: datetime = NOON
    target: str = OLD
    overridden: bool = False
    rollout: RolloutPolicy = GATED
    engine: int = 1
    golden: int = 9
    limit: float = 2
    taken: set[str] = field(default_factory=set)
    """Bytes that lost their traffic, until they are released or begin again."""
    live: Route = field(default_factory=lambda: route(ALIAS, (OLD, 100, "s")))
    entries: list[Entry] = field(default_factory=list)
    said_of: dict[int, dict[str, str]] = field(default_factory=dict)
    """By the number of a mark: what a verdict was about then."""

    def __post_init__(self) -> None:
        self.routed(self.live)

    @property
    def fleet(self) -> FleetSpec:
        given = (override(date(2030, 1, 1), accept=digest_of(NEW)),) if self.overridden else ()
        made = declared(self.target, rollout=self.rollout, overrides=given)
        twin = replace(facts(TWIN), digest=bytes_of(TWIN))
        return replace(
            made,
            versions={**made.versions, TWIN: twin},
            gates={each.name: each for each in self.gates},
            golden={GOLDEN: GoldenFacts(str(self.golden) * 64, 300)},
        )

    @property
    def gates(self) -> tuple[GateSpec, GateSpec]:
        return ACCURACY, replace(ERRORS, threshold=self.limit)

    @property
    def history(self) -> History:
        return fold_entries(self.entries)

    @property
    def state(self) -> State:
        there = [replace(loaded(name, "s"), digest=bytes_of(name)) for name in self.shares]
        return state(self.live, SERVER, *there, versions={"s": f"0.{self.engine}"})

    @property
    def shares(self) -> dict[str, int]:
        return {each.adapter: each.percent for each in self.live.shares}

    @property
    def digest(self) -> str:
        return bytes_of(self.target)

    @property
    def facts(self) -> dict[str, str]:
        """What a verdict of now is about, as far as it may change."""
        base = engine_of(self.state, ("s",) if self.target in self.shares else (), ())
        return {"golden": str(self.golden) * 64, **({"base": base} if base else {})}

    def write(self, kind: str, **data: Any) -> None:
        seq = len(self.entries) + 1
        self.entries.append(Entry(seq, self.now, event_of(kind, data), "run", "ana", 1, "", ""))

    def routed(self, made: Route) -> None:
        step = {"step": f"set {made.address}", "address": made.address}
        self.write("step_started", **step, operation=plain(SetRoute(made)))
        self.write("step_finished", **step, how="done")
        self.live = made

    def wanted(self) -> AliasTarget:
        return decide_rollouts(self.fleet, self.state, self.history, self.now).wanted[ALIAS]

    def judge(self, gate: str, verdict: Verdict) -> None:
        stage = self.history.stages.get(ALIAS)
        since = stage.since if stage and stage.adapter == self.target else self.now
        stable = OLD if self.target != OLD else NEW
        limits = {each.name: each.threshold for each in self.gates}
        found = finding(gate, verdict, limits[gate])
        self.write(
            "gate_judged", alias=ALIAS, adapter=self.target, stable=stable,
            percent=self.shares.get(self.target, 0), gate=gate, finding=found.plain(),
            since=since.isoformat(), fingerprint="",
            digests={"adapter": self.digest, "stable": digest_of(stable), **self.facts},
        )  # fmt: skip

    def say(self, word: str, **more: Any) -> None:
        said = {"alias": ALIAS, "adapter": self.target, "mark": word, "reason": ""}
        self.write("rollout_marked", **said, **more, digest=self.digest)
        self.said_of[len(self.entries)] = self.facts

    def roll_back(self) -> None:
        """Give all to the version before, as `fleetctl rollback` does, and keep the other out."""
        newest = next(each for each in self.live.shares if each.percent)
        older = self.live.shares[self.live.shares.index(newest) + 1 :]
        to = next((e for e in older if e.adapter in self.history.answered_all), None)
        if to is None:
            return
        shares = (replace(e, percent=100 if e == to else 0) for e in self.live.shares)
        self.live = replace(self.live, shares=tuple(shares))
        self.taken.add(bytes_of(newest.adapter))
        said = {"alias": ALIAS, "adapter": newest.adapter, "to": to.adapter, "reason": "bad"}
        self.write("rolled_back", **said)

    def tick(self) -> None:
        """Plan and do what the plan says; once more, and nothing is left to do."""
        before, made = self.shares, self.wanted()
        after = dict(made.shares)
        if made.phase is Phase.ROLLED_BACK:
            self.taken.add(self.digest)
        elif after.get(self.target, 0) > before.get(self.target, 0):
            self.taken.discard(self.digest)
        if made.shares != tuple(before.items()) or made.salt != self.live.salt:
            shares = tuple(Share(name, percent, ("s",)) for name, percent in made.shares)
            self.routed(Route(ALIAS, shares, made.salt))
        again = self.wanted()
        assert dict(again.shares) == after, "a second run at the same time changes nothing"


_verdicts = st.sampled_from(list(Verdict))
_judged = st.tuples(st.just("judge"), st.tuples(st.sampled_from(GATES), _verdicts))
_baked = st.tuples(st.just("wait"), st.just(25))
_changed = st.sampled_from([("engine", None), ("golden", None), ("limit", 1), ("limit", 2)])
_said = ("hold", "resume", "approve", "approve", "advance", "extend", "abort")
events = st.one_of(
    st.tuples(st.just("wait"), st.integers(-30, 60)),
    _baked,
    _baked,
    _judged,
    st.just(("pass", None)),
    st.just(("pass", None)),
    st.tuples(st.just("mark"), st.sampled_from(_said)),
    st.tuples(st.just("pause"), st.integers(1, 60)),
    st.tuples(st.just("declare"), st.sampled_from([OLD, NEW, NEXT, TWIN])),
    st.sampled_from([("release", None), ("roll back", None)]),
    _changed,
    _changed,
    st.tuples(st.just("override"), st.booleans()),
)
stories = st.lists(events, min_size=6, max_size=20)


def happen(world: World, kind: str, what: Any) -> None:  # noqa: C901, PLR0912 (a case each)
    match kind:
        case "wait":
            world.now += what * HOUR
        case "judge":
            world.judge(*what)
        case "pass":
            for gate in GATES:
                world.judge(gate, Verdict.PASS)
        case "mark":
            world.say(what)
        case "pause":
            world.say("pause", until=(world.now + what * HOUR).isoformat())
        case "declare":
            world.target = what
        case "release":
            world.taken.clear()
            world.write("released", alias=ALIAS, adapter=None, route=plain(world.live))
        case "engine":
            world.engine += 1
        case "golden":
            world.golden = world.golden % 9 + 1
        case "limit":
            world.limit = what
        case "roll back":
            world.roll_back()
        case "override":
            world.overridden = what
        case _:
            raise AssertionError(kind)
