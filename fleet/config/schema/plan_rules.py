"""Declares the rules of plans, their exceptions, and the keys that sign versions."""

from typing import Literal

from fleet.config.scalars.quantities import Percent
from fleet.config.scalars.texts import Day, Id, Part, Word
from fleet.config.schema.section import Section


class SigningKey(Section):
    """A public key whose signatures of versions count."""

    file: Word
    """The key, a PEM file of the project: a public key of an elliptic curve."""
    until: Day | None = None
    """The last day (UTC) on which its signatures count. Default: no end."""


class RuleException(Section):
    """A client or an adapter that a rule leaves out, until a day."""

    client: Id | None = None
    """The client; else `adapter`."""
    adapter: Word | None = None
    """The alias, such as `acme-support`; else `client`."""
    until: Day
    """The last day (UTC) of the exception, such as `2026-12-01`."""
    reason: Word
    """Why the rule does not hold here."""


class PlanRule(Section):
    """A limit of plans, of a single kind of the five."""

    level: Literal["advise", "warn", "deny"] = "deny"
    """The consequence of a plan that breaks the rule.

    `advise`: the plan says so. `warn`: its verdict is at least `look before you apply`, and
    `apply` repeats the warning. `deny`: `plan` exits with 1, and `apply` refuses the plan.
    """
    max_traffic_per_day: Percent | None = None
    """Kind 1: part of all requests that may move to other versions in 24 hours. Unit: percent."""
    closed: tuple[Part, ...] = ()
    """Kind 2: parts of the week in which nothing is applied, such as `"Fri 16:00-Mon 08:00"`."""
    timezone: Word = "UTC"
    """Time zone of `closed`, such as `Europe/Paris`."""
    two_approvals: Id | None = None
    """Kind 3: the tier of which every change needs the approvals of two people."""
    max_cost_rise: Percent | None = None
    """Kind 4: how much the price of the devices in use may rise with a plan. Unit: percent."""
    signed: Id | None = None
    """Kind 5: the tier of which a plan loads only signed versions, and sends requests to no other.

    `signatures` has the keys.
    """
    exceptions: dict[Id, RuleException] = {}
    """Clients and adapters that the rule leaves out, by name."""
