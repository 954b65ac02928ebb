"""Checks the rules of plans: a single kind each, and names that exist."""

from collections.abc import Iterator
from typing import Final

from fleet.config.checks import ProjectFacts
from fleet.config.checks.references import DeclaredNames, check_zone, reference
from fleet.config.schema.fleet import Declarations
from fleet.config.validate import Problem

KINDS: Final = ("max_traffic_per_day", "closed", "two_approvals", "max_cost_rise", "signed")


def check_plan_rules(
    given: Declarations, names: DeclaredNames, facts: ProjectFacts
) -> Iterator[Problem]:
    """Check that every rule has a kind, and that tiers, clients and adapters are declared."""
    for name, rule in given.plan_rules.items():
        path = ("plan_rules", name)
        found = [kind for kind in KINDS if getattr(rule, kind) not in (None, ())]
        if len(found) != 1:
            has = (
                f"It has {' and '.join(f'`{kind}`' for kind in found)}" if found else "It has none"
            )
            detail = f"{has}; a rule is of exactly one kind."
            hint = f"Give one of {', '.join(f'`{kind}`' for kind in KINDS)}."
            yield Problem("FC1290", path, detail, hint=hint, at="key")
        for key, tier in (("two_approvals", rule.two_approvals), ("signed", rule.signed)):
            yield from reference("FC1201", "tier", tier, names.tiers, (*path, key))
        yield from check_zone(rule.timezone, facts, (*path, "timezone"))
        for exception, its in rule.exceptions.items():
            where = (*path, "exceptions", exception)
            if (its.client is None) == (its.adapter is None):
                detail = "An exception is about a client or about an adapter."
                hint = "Give `client: NAME` or `adapter: ALIAS`."
                yield Problem("FC1291", where, detail, hint=hint, at="key")
            yield from reference("FC1291", "client", its.client, names.clients, (*where, "client"))
            yield from reference(
                "FC1291", "adapter", its.adapter, names.aliases, (*where, "adapter")
            )
