"""Defines the declared rules of plans, their exceptions, and findings on a plan."""

from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from fleet.rollout_policy import ChangeWindow


class RuleLevel(StrEnum):
    """The consequence of a broken rule."""

    ADVISE = "advise"
    """The plan says so."""
    WARN = "warn"
    """The plan's verdict is at least `look before you apply`, and `apply` repeats the warning."""
    DENY = "deny"
    """The plan is not allowed, and `apply` refuses the plan."""


@dataclass(frozen=True, slots=True)
class RuleExceptionSpec:
    """A client or an alias that a rule leaves out, until a day."""

    name: str
    client: str
    """Empty: an alias is named."""
    adapter: str
    """The alias; empty: a client is named."""
    until: date
    """The last day of the exception, UTC."""
    reason: str

    def covers(self, client: str, alias: str) -> bool:
        """Say whether the exception names the client or the alias."""
        return self.client == client if self.client else self.adapter == alias


@dataclass(frozen=True, slots=True)
class PlanRuleSpec:
    """A declared rule of plans; a single limit is set."""

    name: str
    level: RuleLevel
    max_traffic_per_day: int | None = None
    """Percent of all traffic that may move in 24 hours."""
    closed: tuple[ChangeWindow, ...] = ()
    """Parts of the week in which nothing is applied."""
    timezone: str = "UTC"
    offsets: tuple[int, ...] = (0,)
    """Minutes east of UTC of `timezone` in the course of a year."""
    two_approvals: str = ""
    """Tier of which changes need the approvals of two people."""
    signed: str = ""
    """Tier of which no version gets work without a signature that counts."""
    max_cost_rise: int | None = None
    """Percent by which the price of the devices in use may rise."""
    exceptions: tuple[RuleExceptionSpec, ...] = ()
    """Sorted by name; ended exceptions too."""


@dataclass(frozen=True, slots=True)
class PlanRuleFinding:
    """The finding of a rule on a plan at a time."""

    rule: str  # its name in `plan_rules`
    level: RuleLevel
    broken: bool  # whether the plan breaks the rule
    text: str  # the finding as a sentence
    origin: str = ""
    """`file:line:col` of the rule; empty: not of a file."""
    approvals: int = 0
    """Number of people whose approvals the rule asks for; 0: the rule asks for none."""
