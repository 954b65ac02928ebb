"""Checks what reaches over several declarations: references, rules, amounts. In order."""

from collections.abc import Iterator

from fleet.config.checks.clients import check_clients, check_keys
from fleet.config.checks.lint import lint
from fleet.config.checks.machines import check_bases, check_hosts, check_kinds
from fleet.config.checks.references import DeclaredNames, aliases_of, reference
from fleet.config.checks.rollouts import check_evals, check_rollouts
from fleet.config.facts import ProjectFacts
from fleet.config.problems import Problem
from fleet.config.schema.fleet import Declarations


def check(given: Declarations, names: DeclaredNames, facts: ProjectFacts) -> Iterator[Problem]:
    """Yield every problem that no single value shows."""
    yield from reference("FC1201", "tier", given.defaults.tier, names.tiers, ("defaults", "tier"))
    default = ("defaults", "rollout")
    yield from reference("FC1203", "rollout", given.defaults.rollout, names.rollouts, default)
    yield from check_rollouts(given, names, facts)
    shapes = {name: shape for name in given.bases if (shape := facts.shape(name))}
    yield from check_bases(given, shapes)
    yield from check_hosts(given, names)
    yield from check_kinds(given, {profile.kind for profile in facts.profiles})
    yield from check_clients(given, names, facts)
    yield from check_evals(given)
    yield from check_keys(given, facts.fingerprints)


__all__ = ["DeclaredNames", "ProjectFacts", "aliases_of", "check", "lint"]
