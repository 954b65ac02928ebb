"""Weighs the evidence on a version in its stage, gate by gate: which counts, and what it says."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from fleet.gates import Verdict, least_limit
from fleet.history import GateEvidence, RolloutStage, other_engine
from fleet.plan import NO_EVIDENCE, GateDue
from fleet.policies import AUTO, REPLAY, GateSpec
from fleet.spec import AdapterSpec, FleetSpec


@dataclass(frozen=True, slots=True)
class GateResult:
    """A gate with the evidence that counts now."""

    gate: GateSpec
    evidence: GateEvidence | None
    """None: there is none that is about this version, in this stage, as it is loaded now."""
    accepted: str = ""
    """The override that accepts the version in spite of the gate; empty: none."""
    void: str = ""
    """The change since the gate was judged, such as `another golden set`; empty: none."""

    @property
    def passed(self) -> bool:
        """Whether the gate lets the version go on."""
        passed = self.evidence is not None and self.evidence.finding.verdict is Verdict.PASS
        return passed or bool(self.accepted)

    @property
    def status(self) -> str:
        """The verdict or the acceptance, in a word or two, without numbers."""
        if self.accepted:
            return self.accepted
        return self.evidence.finding.verdict.value if self.evidence else NO_EVIDENCE

    @property
    def detail(self) -> str:
        """The finding's own sentence."""
        why = f"judged with {self.void}" if self.void else ""
        return self.evidence.finding.reason if self.evidence else why

    def due(self, alias: str) -> GateDue:
        """Return the gate as a plan shows gates."""
        gate = self.gate
        return GateDue(alias, gate.name, gate.metric, gate.limit, self.status, self.detail)


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
        found, target = evidence.get(gate.name), str(self.adapter.name)
        bare = GateResult(gate, None)
        if found is None or (found.adapter, found.stable) != (target, self.stable):
            return bare
        of_stage = stage is not None and stage.adapter == target and (
            (found.percent, found.since) == (stage.percent, stage.since)
        )  # fmt: skip
        if not found.digests.get("adapter") or not (gate.offline or of_stage):
            return bare
        void = self._changed(found, gate)
        void = void or ("" if found.answers(gate) else "another limit")
        return GateResult(gate, None, void=void) if void else GateResult(gate, found)

    def is_answered(self, found: GateEvidence | None, gate: GateSpec) -> bool:
        """Say whether an evaluation has answered a gate for these bytes, engine and golden set.

        An evaluation without a scored item is repeated. The limit of the gate is not compared: the
        answers do not depend on the limit.
        """
        if found is None or (found.adapter, found.stable) != (str(self.adapter.name), self.stable):
            return False
        ran = found.finding.verdict is not Verdict.INCONCLUSIVE or found.finding.counts.get("items")
        return bool(ran) and not self._changed(found, gate)

    def _changed(self, found: GateEvidence, gate: GateSpec) -> str:
        """Return the change since a gate was judged; empty: none."""

        def digest(name: str) -> str:
            return self.fleet.versions[name].digest if name in self.fleet.versions else ""

        golden = self.fleet.golden.get(golden_of(self.adapter, gate)) if gate.offline else None
        now = (
            ("adapter", digest(str(self.adapter.name)), "other bytes"),
            ("stable", digest(self.stable), "other bytes of the old version"),
            ("golden", golden.digest if golden else "", "another golden set"),
            ("terms", gate.terms_for(self.adapter.format) if gate.offline else "", "other terms"),
        )
        if other_engine(found.digests.get("base", ""), self.base):
            return "another engine, base or flags"
        for key, digest_now, change in now:
            if digest_now and found.digests.get(key, digest_now) != digest_now:
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
