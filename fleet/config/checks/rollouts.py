"""Checks rollouts, gates, overrides, evaluations and rules of plans: limits and names that fit."""

from collections.abc import Iterator
from typing import Final

from fleet.config.checks import ProjectFacts
from fleet.config.checks.references import DeclaredNames, check_zone, reference
from fleet.config.files.merge import Path
from fleet.config.files.validate import Problem
from fleet.config.schema.fleet import Declarations
from fleet.config.schema.rollouts import Gate, Override, Rollout
from fleet.policies import ABSOLUTE, AUTO, BY_FORM, OFFLINE, RATIOS, UNITS
from fleet.resources import FULL

COUNTED = ("native", "inspect")
"""Engines that can ask through a gateway; the others cannot send the header of a version."""


def check_evals(given: Declarations) -> Iterator[Problem]:
    """Check that evaluations can be asked, and billed, as declared."""
    if given.evals.through == "server":
        for section, declared in (("tiers", given.tiers), ("clients", given.clients)):
            for name, payer in declared.items():
                if payer.bill_evals:
                    detail = "Evaluations go to the servers directly, where no client is billed."
                    hint = "Write `evals: {through: gateway}`, or leave `bill_evals` out."
                    yield Problem("FC1253", (section, name, "bill_evals"), detail, hint=hint)
        return
    own = [name for name, gateway in given.gateways.items() if gateway.kind == "fleetctl"]
    at: Path = ("evals", "through")
    if not own:
        detail = "No gateway of fleetctl's own is declared, and an Envoy knows no operator."
        yield Problem("FC1252", at, detail, hint="Declare one, or write `through: server`.")
    if given.evals.engine not in COUNTED:
        detail = f"The engine `{given.evals.engine}` asks a server by itself."
        hint = (
            f"Use {' or '.join(f'`{metric}`' for metric in COUNTED)}, or write `through: server`."
        )
        yield Problem("FC1252", at, detail, hint=hint)


_GOLDEN = ("golden", "score", "samples", "floor")
_LIVE = ("alarm", "tolerate", "min_requests", "false_alarm")


def check_rollouts(
    given: Declarations, names: DeclaredNames, facts: ProjectFacts
) -> Iterator[Problem]:
    """Check rollouts, gates and overrides."""
    for name, rollout in given.rollouts.items():
        yield from _rollout(("rollouts", name), rollout, names, facts)
    for name, gate in given.gates.items():
        yield from _gate(("gates", name), gate, facts)
    for name, override in given.overrides.items():
        yield from _override(("overrides", name), override, names, facts)


def _rollout(
    path: Path, rollout: Rollout, names: DeclaredNames, facts: ProjectFacts
) -> Iterator[Problem]:
    weights = rollout.weights
    for position, gate in enumerate(rollout.gates):
        yield from reference("FC1204", "gate", gate, names.gates, (*path, "gates", position))
    hint = "Write such as `weights: [10%, 50%, 100%]`."
    at = (*path, "weights")
    if not weights or weights[-1] != FULL:
        detail = f"The last stage of `{path[1]}` is not 100 %, so a version could never take over."
        yield Problem("FC1115", at, detail, hint=hint, at="value" if weights else "key")
    for position, (before, after) in enumerate(zip((0, *weights), weights, strict=False)):
        if after <= before:
            detail = f"Stage {after} % does not exceed the stage before it ({before} %)."
            yield Problem("FC1115", (*at, position), detail, hint=hint)
    if rollout.max_bake is not None and rollout.max_bake < rollout.bake:
        detail = "A stage could never last as long as it has to: `max_bake` is below `bake`."
        hint = "Give at least the time of `bake`."
        yield Problem("FC1240", (*path, "max_bake"), detail, hint=hint)
    low = rollout.low_traffic
    if low is not None and weights and low < weights[0]:
        detail = f"{low} % is less than the first stage ({weights[0]} %), which is too little."
        yield Problem("FC1240", (*path, "low_traffic"), detail, hint="Give a larger share.")
    yield from check_zone(rollout.timezone, facts, (*path, "timezone"))


def _gate(path: Path, gate: Gate, facts: ProjectFacts) -> Iterator[Problem]:
    allowed = UNITS[gate.metric]
    number, unit = gate.max
    share = unit in ("pp", "%")
    offline = gate.metric in OFFLINE
    detail, hint = "", f"Write such as `{3 if share else 500}{unit}`."
    chosen = offline and unit == AUTO
    if unit not in allowed and not chosen:
        detail = f"`{gate.metric}` is limited in {' or '.join(allowed)}, not in {unit}."
        hint = f"Write such as `{number:g}{allowed[0]}`."
    elif gate.metric in RATIOS and number < 1:
        detail = f"{number:g}x asks a new version to be faster than the one it replaces."
        hint = "Write such as `1.5x`."
    elif (number == 0 and not chosen) or (share and number >= FULL):
        detail = f"No measurement can show that `{gate.metric}` keeps {number:g}{unit}."
    if detail:
        yield Problem("FC1214", (*path, "max"), detail, hint=hint)
    fixed = ("alarm", "tolerate") if gate.metric in ABSOLUTE else ()
    for key in _LIVE if offline else (*_GOLDEN, *fixed):
        if getattr(gate, key) is not None:
            judged = "a golden set" if offline else "a fixed limit" if key in fixed else "requests"
            detail = f"`{gate.metric}` is judged on {judged}, where `{key}` means nothing."
            hint = f"Delete `{key}`."
            if gate.metric == "format_drop" and key in _GOLDEN:
                hint += f" On a golden set: `metric: accuracy_drop, score: {BY_FORM}`."
            yield Problem("FC1241", (*path, key), detail, hint=hint, at="key")
    yield from _alarm(path, gate)
    if gate.golden in facts.absent:
        detail = f"`{gate.golden}` does not exist in the project."
        hint = "Add the file, or correct the path; gates compare versions on it."
        yield Problem("FC1216", (*path, "golden"), detail, hint=hint)


def _alarm(path: Path, gate: Gate) -> Iterator[Problem]:
    number, unit = gate.max
    if gate.tolerate and (gate.tolerate.unit != "x" or gate.tolerate.number < 1):
        detail = "What is tolerated is a multiple of the old version's rate, 1x or more."
        yield Problem("FC1214", (*path, "tolerate"), detail, hint="Write such as `1.25x`.")
    least = 1 if unit == "x" else 0.01
    if gate.alarm and (gate.alarm.unit != unit or not least <= gate.alarm.number <= number):
        detail = f"An alarm is between {least:g}{unit} and the limit, {number:g}{unit}."
        hint = f"Write such as `{(least + number) / 2:.2g}{unit}`."
        yield Problem("FC1214", (*path, "alarm"), detail, hint=hint)


def _override(
    path: Path, override: Override, names: DeclaredNames, facts: ProjectFacts
) -> Iterator[Problem]:
    yield from reference("FC1223", "alias", override.alias, names.aliases, (*path, "alias"))
    for position, gate in enumerate(override.gates):
        yield from reference("FC1204", "gate", gate, names.gates, (*path, "gates", position))
    locked = (
        name for name, adapter in facts.lock.adapters.items()
        if adapter.facts.digest.startswith(override.accept)
    )  # fmt: skip
    if not any(name.startswith(f"{override.alias}-") for name in locked):
        detail = f"No version of `{override.alias}` in the lock has digest `{override.accept}`."
        hint = "Correct the digest, or delete an override that is no longer needed."
        yield Problem("FC1243", (*path, "accept"), detail, hint=hint, severity="warning")


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
