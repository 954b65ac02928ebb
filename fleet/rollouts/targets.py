"""Defines the versions that an alias should have now, and the phase of its rollout."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from fleet.plan import GateDue, PlanNote
from fleet.rollouts.upgrade import Upgrade


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
