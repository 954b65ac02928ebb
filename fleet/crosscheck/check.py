"""Every check over several declarations, in order."""

from collections.abc import Iterator

from fleet.crosscheck.clients import check_clients
from fleet.crosscheck.evals import check_evals
from fleet.crosscheck.facts import Facts
from fleet.crosscheck.keys import check_keys
from fleet.crosscheck.machines import check_bases, check_hosts, check_kinds
from fleet.crosscheck.references import Names, reference
from fleet.crosscheck.rollouts import check_rollouts
from fleet.declarations import Declarations
from fleet.problems import Finding


def check(given: Declarations, names: Names, facts: Facts) -> Iterator[Finding]:
    """Yield every problem that no single value shows."""
    yield from reference("FC1201", "tier", given.defaults.tier, names.tiers, ("defaults", "tier"))
    default = ("defaults", "rollout")
    yield from reference("FC1203", "rollout", given.defaults.rollout, names.rollouts, default)
    yield from check_rollouts(given, names, facts)
    shapes = {name: shape for name in given.bases if (shape := facts.shape(name))}
    yield from check_bases(given, shapes)
    yield from check_hosts(given, names)
    yield from check_kinds(given, {each.kind for each in facts.profiles})
    yield from check_clients(given, names, facts)
    yield from check_evals(given)
    yield from check_keys(given, facts.fingerprints)
