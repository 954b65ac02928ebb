"""Weighs the evidence on a version, gate by gate, and lists the trials that are due."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from fleet.gates import Verdict, least_limit
from fleet.history import (
    BlockKind,
    Evidence,
    GateEvidence,
    History,
    RolloutStage,
    accepted,
    blocks_on,
    is_way_back,
    other_engine,
    rejection,
)
from fleet.names import server_address
from fleet.policies import AUTO, REPLAY, GateSpec
from fleet.resources import FULL, Route, Server, State
from fleet.rollouts.targets import GateResult, Upgrade
from fleet.spec import AdapterSpec, FleetSpec
from fleet.traffic import Sticky


def golden_of(adapter: AdapterSpec, gate: GateSpec) -> str:
    """Return the path of the golden set that judges an adapter; empty: there is none.

    Without a set of its own a gate of replays asks captured requests.
    """
    return gate.golden or (gate.metric != REPLAY and adapter.golden) or ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A version on trial, as locked and loaded now, and the version to compare with."""

    fleet: FleetSpec
    adapter: AdapterSpec
    """The declared adapter: its golden set and format are compared by."""
    target: str
    """Full name of the version on trial."""
    stable: str
    """Full name of the version to compare with."""
    base: str
    """As `Situation.base`."""

    def judged(
        self, stage: RolloutStage | None, evidence: Mapping[str, GateEvidence], gate: GateSpec
    ) -> GateResult:
        """Return a gate with its evidence by gate, if the evidence still counts.

        Offline evidence holds for these bytes, the version compared with, the engine, the golden
        set and the gate as it is declared: who asks for more samples after a gate could not tell
        gets them. Live evidence holds for the stage in which it was gathered, on the same terms.
        """
        prior, bare = evidence.get(gate.name), GateResult(gate, None)
        if prior is None or (prior.adapter, prior.stable) != (self.target, self.stable):
            return bare
        of_stage = stage is not None and stage.adapter == self.target and (
            (prior.percent, prior.since) == (stage.percent, stage.since)
        )  # fmt: skip
        if not prior.digests.get("adapter") or not (gate.offline or of_stage):
            return bare
        void = self.changed(prior, gate)
        void = void or ("" if prior.answers(gate) else "another limit")
        return GateResult(gate, None, void=void) if void else GateResult(gate, prior)

    def is_answered(self, prior: GateEvidence | None, gate: GateSpec) -> bool:
        """Say whether an evaluation has answered a gate for these bytes, engine and golden set.

        An evaluation without a scored item is repeated. The limit of the gate is not compared: the
        answers do not depend on the limit.
        """
        if prior is None or (prior.adapter, prior.stable) != (self.target, self.stable):
            return False
        ran = prior.finding.verdict is not Verdict.INCONCLUSIVE or prior.finding.counts.get("items")
        return bool(ran) and not self.changed(prior, gate)

    def changed(self, prior: Evidence, gate: GateSpec) -> str:
        """Return the change since a gate was judged; empty: none."""

        def digest(name: str) -> str:
            return self.fleet.versions[name].digest if name in self.fleet.versions else ""

        golden = self.fleet.golden.get(golden_of(self.adapter, gate)) if gate.offline else None
        now = (
            ("adapter", digest(self.target), "other bytes"),
            ("stable", digest(self.stable), "other bytes of the old version"),
            ("golden", golden.digest if golden else "", "another golden set"),
            ("terms", gate.terms_for(self.adapter.format) if gate.offline else "", "other terms"),
        )
        if other_engine(prior.digests.get("base", ""), self.base):
            return "another engine, base or flags"
        for key, digest_now, change in now:
            if digest_now and prior.digests.get(key, digest_now) != digest_now:
                return change
        return ""


def gates_of(fleet: FleetSpec, adapter: AdapterSpec) -> tuple[GateSpec, ...]:
    """Return the gates of an adapter's rollout, in its order, with their limits in numbers."""
    names = fleet.rollouts[adapter.rollout].gates
    return tuple(
        _limited(fleet, adapter, fleet.gates[name]) for name in names if name in fleet.gates
    )


def _limited(fleet: FleetSpec, adapter: AdapterSpec, gate: GateSpec) -> GateSpec:
    """Return a gate with the limit that its golden set can show in the place of `auto`."""
    golden = fleet.golden.get(golden_of(adapter, gate))
    if gate.unit != AUTO or golden is None:
        return gate
    limit = least_limit(golden.independent, gate.samples)
    return replace(gate, threshold=float(limit), unit="pp")


ALTERED = "altered"
"""In the place of a digest: bytes that are not those that the lock pins."""


@dataclass(frozen=True, slots=True)
class GateTrial:
    """The trial of a version in a stage, or of a server with new settings beside its old server."""

    alias: str
    adapter: str
    """Full name of the new version."""
    stable: str
    """Full name of the version that answers the rest, or did until the cut-over."""
    percent: int
    """The new version's share now; 0: it gets no traffic yet; 100: the old one is still loaded."""
    since: datetime | None
    """From when on requests of this stage count; None: the ledger does not say."""
    servers: tuple[str, ...]
    """That list the new version, sorted."""
    stable_servers: tuple[str, ...]
    offline: tuple[GateSpec, ...]
    """Gates on a golden set for which no evidence holds."""
    live: tuple[GateSpec, ...]
    """Gates on traffic; asked again each time, while there is any."""
    digests: Mapping[str, str]
    """Of `adapter`, `stable` and `base`; the last covers engine, version and flags."""
    rejected: GateEvidence | None = None
    """Evidence by which these bytes have failed and may not serve."""
    accepted: frozenset[str] = frozenset()
    """Gates whose verdict people have overridden; they are asked and stop nothing."""
    sticky: Sticky = Sticky.REQUEST
    """The unit that the split keeps on a version."""
    upgrade: Upgrade | None = None
    """The upgrade that is tried: the version is compared with itself, the new one on the canary
    server, the stable one on the servers of its route; None: the version itself is tried.
    """

    @property
    def place(self) -> str:
        """Where the version is tried: at a share of traffic, or on the canary of an upgrade."""
        return f"on {self.upgrade.canary}" if self.upgrade else f"at {self.percent} %"

    @property
    def key(self) -> tuple[str, str]:
        """Alias and version, with the server of a canary."""
        canary = f"@{self.upgrade.canary}" if self.upgrade else ""
        return self.alias, f"{self.adapter}{canary}"


def due_gates(
    fleet: FleetSpec, live: State, history: History, now: datetime
) -> tuple[GateTrial, ...]:
    """Return the trials, by alias; nothing while the routes are not known.

    A version of which a server holds other bytes than the lock pins is not tried: whatever was
    found would be about something else. Beside a version that is altered so, a failure counts and
    nothing passes.
    """
    if live.routes_unknown:
        return ()
    routes, strange = live.routes(), other_bytes(fleet, live)
    loaded = loaded_on(live)
    due = (
        _trial(fleet, adapter, routes[alias], live, history, now, strange, loaded)
        for alias, adapter in sorted(fleet.adapters.items())
        if alias in routes and adapter.name.client not in fleet.set_aside
    )
    return tuple(trial for trial in due if trial is not None)


def _trial(
    fleet: FleetSpec,
    adapter: AdapterSpec,
    route: Route,
    live: State,
    history: History,
    now: datetime,
    strange: frozenset[str],
    loaded: Mapping[str, tuple[str, ...]],
) -> GateTrial | None:
    alias, shares = adapter.alias, {share.adapter: share.percent for share in route.shares}
    stage = history.stages.get(alias)
    name = _candidate(str(adapter.name), shares, stage)
    declared = name == str(adapter.name)
    percent, stable = shares.get(name, 0), _stable(fleet, route, name, history)
    facts, other = fleet.versions.get(name), fleet.versions.get(stable)
    if not stable or facts is None or name in strange:
        return None
    digest, taken_out = facts.digest, (BlockKind.HELD, BlockKind.ABORTED)

    def accepts(gate: str) -> bool:
        return bool(accepted(fleet.overrides, alias, digest, gate, now))

    for block in blocks_on(history, fleet.versions, alias, name, digest, taken_out):
        # Taken out under this name or another, unless an override lets the bytes in. A version that
        # answers all requests was put there, whatever the verdict on the same bytes before.
        counts = block.adapter == name or percent < FULL
        if counts and not (block.gate and accepts(block.gate)):
            return None
    altered = stable in strange
    if percent == FULL and (stable == route.shadow or stable not in history.cutovers):
        return None  # no replaced version is there to go back to
    servers, stable_servers = loaded.get(name, ()), loaded.get(stable, ())
    routed = {server for share in route.shares if share.adapter == name for server in share.servers}
    base = engine_of(live, servers, routed)
    digests = {
        "adapter": digest,
        "stable": ALTERED if altered else other.digest if other else "",
        "base": base,
    }
    digests = {key: digest for key, digest in digests.items() if digest}
    gates = gates_of(fleet, adapter)
    ours = stage is not None and (stage.adapter, stage.percent) == (name, percent)
    rejected = rejection(history, fleet.overrides, alias, name, digest, now)
    evidence = {item.gate: item for item in history.evidence.get(alias, ())}
    comparison = Comparison(fleet, adapter, name, stable, base)
    return GateTrial(
        alias,
        name,
        stable,
        percent,
        stage.since if stage is not None and ours and percent else None,
        servers,
        stable_servers,
        tuple(
            gate
            for gate in gates
            if gate.offline and declared and not (rejected or altered)
            if servers and percent < FULL
            if not comparison.is_answered(evidence.get(gate.name), gate)
        ),
        tuple(gate for gate in gates if not gate.offline and percent and not rejected),
        digests,
        rejected,
        frozenset(gate.name for gate in gates if accepts(gate.name)),
        adapter.sticky,
    )


def other_bytes(fleet: FleetSpec, live: State) -> frozenset[str]:
    """Return the versions of which a server holds other bytes than the lock pins."""
    pinned: Mapping[str, str] = {name: version.digest for name, version in fleet.versions.items()}
    return frozenset(
        adapter.adapter
        for adapter in live.adapters().values()
        if adapter.unsure or adapter.digest != pinned.get(adapter.adapter, adapter.digest)
    )


def loaded_on(live: State) -> dict[str, tuple[str, ...]]:
    """Return the sorted servers that list a version, by full name of the version."""
    return grouped((adapter.adapter, adapter.server) for adapter in live.adapters().values())


def grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """Return the sorted second parts of pairs, by the first part."""
    groups: dict[str, set[str]] = defaultdict(set)
    for name, server in pairs:
        groups[name].add(server)
    return {name: tuple(sorted(servers)) for name, servers in sorted(groups.items())}


def _candidate(declared: str, shares: Mapping[str, int], stage: RolloutStage | None) -> str:
    """Return the version that is half-way up, though the file asks for another; else the declared.

    Until the file is applied the version keeps its traffic, and its gates must be judged. The
    version that the file asks for is no candidate meanwhile: beside a canary the old version would
    be judged.
    """
    return stage.adapter if stage is not None and stage.is_half_way(shares) else declared


def _stable(fleet: FleetSpec, route: Route, target: str, history: History) -> str:
    """Return the version that answers beside the target, else the newest resident to go back to."""
    other_shares = [share for share in route.shares if share.adapter != target]
    serving = [other.adapter for other in other_shares if other.percent]
    resident = (other.adapter for other in other_shares if other.servers)
    back = (name for name in resident if is_way_back(history, fleet.versions, route.alias, name))
    return serving[-1] if serving else next(back, "")


def engine_of(live: State, servers: tuple[str, ...], routed: Iterable[str]) -> str:
    """Return a text for the engines that serve a version: `server=digest`, by server.

    Empty where a server of `routed` is unknown. `routed`: servers on the route.
    """
    if live.unknown_servers.keys() & set(routed):
        return ""
    digests = ((server, engine_digest(live, server)) for server in servers)
    return " ".join(f"{server}={digest}" for server, digest in digests if digest)


def engine_digest(live: State, server: str) -> str:
    """Return a text for a server: engine version, flags, files of the base.

    Sixteen hex digits; empty where it is not there. Of an attached one the version is known.
    """
    resource = live.resources.get(server_address(server))
    if not isinstance(resource, Server):
        return ""
    facts = live.versions.get(server, ""), resource.digest or "", live.bases.get(server, "")
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
