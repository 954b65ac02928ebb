"""Defines an upgrade of servers: its stage, its servers and the verdicts of its canary."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from fleet.gates import Verdict
from fleet.history import UpgradeVerdict
from fleet.names import version_of
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
class GoldenResult:
    """A gate of a client on the canary server."""

    alias: str
    adapter: str
    """Full name of the version with most traffic, which answers on both servers."""
    gate: GateSpec
    verdict: UpgradeVerdict | None
    """None: not judged on this canary, with this golden set and these terms."""

    @property
    def passed(self) -> bool:
        """Whether the new settings are no worse for the client."""
        return self.verdict is not None and self.verdict.finding.verdict is Verdict.PASS

    @property
    def judged(self) -> bool:
        """Whether answers stand behind the verdict."""
        return self.verdict is not None and bool(self.verdict.finding.counts.get("items"))

    def __str__(self) -> str:
        subject = f"{self.alias} {self.gate.name}"
        if self.verdict is None:
            return f"{subject}: no evidence yet on {version_of(self.adapter)}"
        finding = self.verdict.finding
        return f"{subject}: {finding.verdict}" + ("" if self.passed else f", {finding.reason}")


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
    results: tuple[GoldenResult, ...]
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

    @property
    def awaited(self) -> tuple[GoldenResult, ...]:
        """The gates that no answers have been judged by."""
        return tuple(result for result in self.results if not result.judged)
