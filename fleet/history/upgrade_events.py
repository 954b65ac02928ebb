"""Defines the events of upgrades: verdicts on a canary server, decisions about new settings."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, TypeAlias

from fleet.history.apply_events import Document, EventFields

UpgradeMark = Literal["approve", "advance", "stop", "release"]
"""A decision about the settings of an upgrade.

`approve`: servers are replaced; `advance`: the same before all golden sets were judged; `stop`:
none is, and clients go back; `release`: judged anew.
"""


@dataclass(frozen=True, slots=True)
class UpgradeFields(EventFields):
    """The fields of every event of an upgrade."""

    base: str = ""
    settings: str = ""
    """Text that stands for the new settings, as `fleet.rollouts.Upgrade`."""


@dataclass(frozen=True, slots=True)
class UpgradeJudged(UpgradeFields):
    """A verdict of a client's golden set on a canary server, beside the old server."""

    kind: ClassVar[str] = "upgrade_judged"
    old: str = ""
    """Settings of the server that was compared with."""
    canary: str = ""
    """Name of the canary server."""
    alias: str = ""
    adapter: str = ""
    """Full name of the version that answered on both servers."""
    gate: str = ""
    finding: Document = field(default_factory=dict)
    """`fleet.gates.Finding` as written."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """Of `adapter`, `base` (the engine of the canary) and `golden`; `terms` as text."""
    runs: tuple[str, ...] = ()
    """Ids of the evaluations behind the verdict, the old server's first."""


@dataclass(frozen=True, slots=True)
class UpgradeDecided(UpgradeFields):
    """A decision about an upgrade, by its golden sets or by a person."""

    kind: ClassVar[str] = "upgrade_decided"
    mark: str = ""
    """An `UpgradeMark`, or a mark of a later release."""
    reason: str = ""
    old: str = ""
    """Settings before; empty: not known."""


UpgradeEvent: TypeAlias = UpgradeJudged | UpgradeDecided
