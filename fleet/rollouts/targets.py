"""Defines the versions that an alias should have now, the phase of its rollout, and upgrades."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from fleet.gates import Finding, Verdict
from fleet.history import Evidence
from fleet.names import version_of
from fleet.plan import NO_EVIDENCE, GateDue, PlanNote
from fleet.policies import GateSpec


class UpgradeStage(StrEnum):
    """Stage of an upgrade after this plan."""

    CANARY = "canary"
    """A canary server starts, or loads the versions of clients; no route names it."""
    JUDGING = "judging"
    """Golden sets are asked on the canary server and on the old servers."""
    MOVING = "moving"
    """Clients move from an old server to new servers; the old server is kept for a while."""
    STOPPED = "stopped"
    """A golden set failed, or a person said so: clients stay on, or return to, old servers."""
    NO_ROOM = "no room"
    """No device is free for a canary: nothing is judged, and servers keep their settings.

    Sent on by a person, servers restart in their place; and so they do where no golden set would
    judge the canary.
    """


@dataclass(frozen=True, slots=True)
class GateResult:
    """A gate with the evidence that counts now."""

    gate: GateSpec
    evidence: Evidence | None
    """None: there is none that is about this version, in this stage, as it is loaded now; or on
    this canary, with this golden set and these terms.
    """
    accepted: str = ""
    """The override that accepts the version in spite of the gate; empty: none."""
    void: str = ""
    """The change since the gate was judged, such as `another golden set`; empty: none."""

    @property
    def passed(self) -> bool:
        """Whether the gate lets the version, or the upgrade, go on."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryResult(GateResult):
    """A gate of a client on the canary server of an upgrade."""

    alias: str
    adapter: str
    """Full name of the version with most traffic, which answers on both servers."""

    @property
    def judged(self) -> bool:
        """Whether answers stand behind the verdict."""
        return self.evidence is not None and bool(self.evidence.finding.counts.get("items"))

    def __str__(self) -> str:
        title = f"{self.alias} {self.gate.name}"
        if self.evidence is None:
            return f"{title}: no evidence yet on {version_of(self.adapter)}"
        return f"{title}: {self.status}" + ("" if self.passed else f", {self.detail}")


@dataclass(frozen=True, slots=True)
class Upgrade:
    """An upgrade of the servers of a base, as of now."""

    base: str
    settings: str
    """Text that stands for the new settings."""
    old_settings: str
    changed: tuple[str, ...]
    """Flags that differ, such as `max_model_len: 512 -> 256`."""
    stage: UpgradeStage
    old: tuple[str, ...]
    """Servers with other settings, in the order in which they are replaced."""
    canary: str
    """The canary server; empty: there is none yet."""
    versions: tuple[str, ...]
    """Full names of the locked versions with traffic on the base."""
    results: tuple[CanaryResult, ...]
    unguarded: tuple[str, ...]
    """Aliases without a golden set as a gate."""
    held: frozenset[str]
    """Servers that keep their settings for now."""
    hidden: frozenset[str]
    """Servers on which nothing is placed: their devices are taken."""
    kept: str = ""
    """The old server that stays loaded without traffic, as the way back; empty: none does."""
    until: datetime | None = None
    """End of that time."""
    reason: str = ""
    """Reason of the approval or the stop."""

    @property
    def passed(self) -> bool:
        """Whether every client has a golden set, and all of them have passed."""
        return not self.unguarded and all(result.passed for result in self.results)

    def knows(self, alias: str, finding: Finding) -> bool:
        """Say whether a finding about a client repeats the finding that counts now."""
        return any(
            result.evidence is not None
            and (result.alias, result.gate.name) == (alias, finding.gate)
            and result.evidence.finding.reason == finding.reason
            for result in self.results
        )

    @property
    def awaited(self) -> tuple[CanaryResult, ...]:
        """The gates that no answers have been judged by."""
        return tuple(result for result in self.results if not result.judged)


class Phase(StrEnum):
    """Where an alias stands in its rollout after this plan."""

    FIRST = "first"
    """There was no route: the wanted version takes all traffic."""
    EVALUATING = "evaluating"
    """Loaded, without traffic, until its golden sets have passed."""
    STARTED = "started"
    ADVANCED = "advanced"
    WAITING = "waiting"
    """In a stage that has not baked, or is ready and waits for its hour."""
    EXTENDED = "extended"
    """Baked, and a gate cannot tell yet: it goes on until the longest bake is over."""
    UNDECIDED = "undecided"
    """No more time is given: a person decides."""
    PAUSED = "paused"
    """A person keeps the share, until `resume` or a time; a gate that fails still takes its
    traffic back.
    """
    DOUBTED = "doubted"
    """The clock or a verdict is not to be believed, and the share stays; it may still fail."""
    RETURNED = "returned"
    """Another version's rollout is no longer declared: the one it began from has it all again."""
    SOAKING = "soaking"
    """The version has all traffic, and the replaced version is kept loaded."""
    COMPLETE = "complete"
    ROLLED_BACK = "rolled_back"
    """The version loses its traffic now."""
    HELD = "held"
    """The wanted version was rolled back and gets no traffic."""
    EDITED = "edited"
    """The live route was changed by hand: it goes back, or is left as it is like a rollback."""
    UNKNOWN = "unknown"
    """The routes could not be read."""
    SET_ASIDE = "set_aside"
    """The client's declarations are broken, and its live versions and shares stay."""


@dataclass(frozen=True, slots=True)
class AliasTarget:
    """The versions and shares that an alias should have now."""

    alias: str
    target: str
    """Full name of the declared version."""
    shares: tuple[tuple[str, int], ...]
    """Full adapter name and percent, the target first; resident at 0 percent too."""
    salt: str
    phase: Phase
    why: str
    held: str = ""
    """The declared change that is not made, and why, for the reader; empty: there is none."""
    gates: tuple[GateDue, ...] = ()

    @property
    def note(self) -> PlanNote | None:
        """`held` as a note of the plan; None: every declared change is made."""
        return PlanNote(self.held, self.alias) if self.held else None


@dataclass(frozen=True, slots=True)
class RolloutTargets:
    """The target of every alias, by alias."""

    wanted: Mapping[str, AliasTarget]
    loaded: Mapping[str, tuple[str, ...]]
    """By full adapter name: known servers that list it now, sorted."""
    routed: Mapping[str, tuple[str, ...]]
    """By full adapter name: servers that a live route names for it, sorted."""
    freeable: frozenset[tuple[str, str]]
    """(adapter, server): ours, wanted nowhere and without traffic; may be unloaded first."""
    owned: frozenset[str]
    """Addresses that fleetctl created or adopted."""
    upgrades: tuple[Upgrade, ...] = ()
    """Upgrades of servers that are due or under way, by base."""
