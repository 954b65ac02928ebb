"""Gating: what the evidence says of a version in its stage, gate by gate."""

from collections.abc import Mapping
from dataclasses import dataclass

from fleet.conditions import Gate, Rollout
from fleet.declared import Adapter, Fleet
from fleet.gates import Verdict
from fleet.history import Evidence, Stage
from fleet.plan import GateDue

NONE = "no evidence"


@dataclass(frozen=True, slots=True)
class Judged:
    """A gate, and what is known of it now."""

    gate: Gate
    evidence: Evidence | None
    """None: there is none that is about this version, in this stage, as it is loaded now."""
    accepted: str = ""
    """Who answers for the version whatever the gate says; empty: nobody."""

    @property
    def passed(self) -> bool:
        """Whether it lets the version go on."""
        passed = self.evidence is not None and self.evidence.finding.verdict is Verdict.PASS
        return passed or bool(self.accepted)

    @property
    def status(self) -> str:
        """What is known, in a word or two; the numbers stand elsewhere."""
        if self.accepted:
            return self.accepted
        return self.evidence.finding.verdict.value if self.evidence else NONE

    @property
    def detail(self) -> str:
        """The finding's own sentence."""
        return self.evidence.finding.reason if self.evidence else ""

    def due(self, alias: str) -> GateDue:
        """Return it as a plan shows it."""
        gate = self.gate
        return GateDue(alias, gate.name, gate.metric, gate.limit, self.status, self.detail)


def golden_of(adapter: Adapter, gate: Gate) -> str:
    """Return the path of the golden set that judges an adapter; empty: there is none."""
    return gate.golden or adapter.golden or ""


def current(
    fleet: Fleet,
    adapter: Adapter,
    stable: str,
    stage: Stage | None,
    evidence: Mapping[str, Evidence],
    gate: Gate,
) -> Evidence | None:
    """Return a gate's evidence if it is about what serves now.

    Offline evidence holds for these bytes, the version compared with, the golden set and the
    gate as it is declared: who asks for more samples after a gate could not tell gets them. Live
    evidence holds for the stage in which it was gathered.
    """
    found = evidence.get(gate.name)
    target = str(adapter.name)
    if found is None or (found.adapter, found.stable) != (target, stable):
        return None
    golden = fleet.golden.get(golden_of(adapter, gate)) if gate.offline else None
    now = {
        "adapter": fleet.versions[target].digest if target in fleet.versions else "",
        "stable": fleet.versions[stable].digest if stable in fleet.versions else "",
        "golden": golden.digest if golden else "",
        "terms": gate.terms if gate.offline else "",
    }
    if not found.digests.get("adapter"):
        return None
    if any(each and found.digests.get(key, each) != each for key, each in now.items()):
        return None
    if gate.offline:
        return found
    of_stage = stage is not None and stage.adapter == target and (
        (found.percent, found.since) == (stage.percent, stage.since)
    )  # fmt: skip
    return found if of_stage else None


def gates_of(fleet: Fleet, rollout: Rollout) -> tuple[Gate, ...]:
    """Return the gates of a rollout, in its order."""
    return tuple(fleet.gates[name] for name in rollout.gates if name in fleet.gates)
