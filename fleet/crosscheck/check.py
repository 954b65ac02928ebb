"""Every check over several declarations, in order."""

from collections.abc import Iterator

from fleet.crosscheck.clients import check_clients
from fleet.crosscheck.facts import Facts
from fleet.crosscheck.keys import check_keys
from fleet.crosscheck.machines import check_bases, check_hosts
from fleet.crosscheck.references import Names, Path, reference
from fleet.declarations import UNITS, Declarations, Rollout
from fleet.problems import Finding

FULL = 100


def check(given: Declarations, names: Names, facts: Facts) -> Iterator[Finding]:
    """Yield every problem that no single value shows."""
    yield from reference("FC1201", "tier", given.defaults.tier, names.tiers, ("defaults", "tier"))
    default = ("defaults", "rollout")
    yield from reference("FC1203", "rollout", given.defaults.rollout, names.rollouts, default)
    for name, rollout in given.rollouts.items():
        yield from _rollout(("rollouts", name), rollout, names)
    for name, gate in given.gates.items():
        allowed = UNITS[gate.metric]
        if gate.max.unit not in allowed:
            units = " or ".join(allowed)
            detail = f"`{gate.metric}` is limited in {units}, not in {gate.max.unit}."
            hint = f"Write such as `{gate.max.number:g}{allowed[0]}`."
            yield Finding("FC1214", ("gates", name, "max"), detail, hint=hint)
    shapes = {name: shape for name in given.bases if (shape := facts.shape(name))}
    yield from check_bases(given, shapes)
    yield from check_hosts(given, names)
    yield from check_clients(given, names, facts)
    yield from check_keys(given, facts.fingerprints)


def _rollout(path: Path, rollout: Rollout, names: Names) -> Iterator[Finding]:
    weights = rollout.weights
    for position, gate in enumerate(rollout.gates):
        yield from reference("FC1204", "gate", gate, names.gates, (*path, "gates", position))
    hint = "Write such as `weights: [10%, 50%, 100%]`."
    at = (*path, "weights")
    if not weights or weights[-1] != FULL:
        detail = f"The last stage of `{path[1]}` is not 100 %, so a version could never take over."
        yield Finding("FC1115", at, detail, hint=hint, at="value" if weights else "key")
    for position, (before, after) in enumerate(zip((0, *weights), weights, strict=False)):
        if after <= before:
            detail = f"Stage {after} % does not exceed the stage before it ({before} %)."
            yield Finding("FC1115", (*at, position), detail, hint=hint)
