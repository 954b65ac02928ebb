"""Resolves declarations to a `FleetSpec`: defaults and tiers merged, every reference checked."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from fleet.config.checks import ProjectFacts
from fleet.config.checks.bases import check_bases
from fleet.config.checks.clients import check_clients, check_keys
from fleet.config.checks.former_names import check_former_names
from fleet.config.checks.machines import check_hosts, check_kinds, check_profiles
from fleet.config.checks.references import (
    DeclaredNames,
    check_extensions,
    check_state,
    check_zone,
    declared_extensions,
    reference,
)
from fleet.config.checks.rollouts import check_evals, check_plan_rules, check_rollouts
from fleet.config.checks.version_bytes import check_same_bytes, check_signing_keys
from fleet.config.files.merge import Tree
from fleet.config.files.settings import declared_settings
from fleet.config.files.validate import Problem
from fleet.config.resolve import clients
from fleet.config.resolve.machines import (
    base,
    gate,
    gateway,
    host,
    override,
    plan_rule,
    rollout,
    signing,
)
from fleet.config.schema.fleet import Declarations
from fleet.config.schema.rollouts import Evals, Rollout
from fleet.policies import CostPolicy
from fleet.spec import EvalPolicy, EvalSpec, FleetSpec, JudgeSpec, PlacementPolicy


def resolve_fleet(
    given: Declarations, tree: Tree, facts: ProjectFacts
) -> tuple[FleetSpec, list[Problem]]:
    """Merge defaults and check that the declarations, with their tree, fit together.

    Returns:
        The fleet, and all problems; with an error among them the fleet is not to be used.
    """
    findings = list(_check(given, DeclaredNames.of(tree.value, given), facts))
    findings += check_state(given, tree)
    packages, costs, placement = declared_extensions(given), given.costs, given.placement
    fleet = FleetSpec(
        name=given.fleet,
        clients=_resolved(given.clients, lambda n, own: clients.client(n, own, given, facts)),
        tiers=_resolved(clients.tiers(given), clients.tier),
        bases=_resolved(given.bases, lambda n, own: base(n, own, facts)),
        hosts=_resolved(given.hosts, lambda n, own: host(n, own, packages.get("engines", {}))),
        adapters=_sorted(clients.adapters(given, facts)),
        rollouts=_resolved(
            {"standard": Rollout(), **given.rollouts}, lambda n, own: rollout(n, own, facts)
        ),
        gates=_resolved(given.gates, gate),
        gateways=_resolved(
            given.gateways, lambda n, own: gateway(n, own, given.servers_secret, given.hosts)
        ),
        servers_secret=given.servers_secret or "",
        keep_versions=given.defaults.keep_versions,
        versions=_sorted((name, entry.facts) for name, entry in facts.lock.adapters.items()),
        origins=tree,
        renames=_sorted(clients.renames(given)),
        called=tree.called,
        warnings=_warnings(findings, tree),
        policy=PlacementPolicy(
            placement.utilization / 100, placement.canary_slots, placement.share_devices
        ),
        profiles=facts.profiles,
        notify=clients.notify(given.notify),
        golden=facts.golden,
        overrides=tuple(_resolved(given.overrides, override).values()),
        plan_rules=tuple(
            _resolved(given.plan_rules, lambda n, own: plan_rule(n, own, facts)).values()
        ),
        signing=signing(given, facts),
        evals=_evals(given.evals),
        costs=CostPolicy(costs.currency, costs.timezone, costs.idle, costs.storage_per_gib_month),
        compiled_for=tuple(sorted({*given.compiled_for})),
        settings=declared_settings(given, tree),
        extensions=packages,
    )
    return fleet, findings


def _warnings(problems: Iterable[Problem], tree: Tree) -> tuple[str, ...]:
    """Return the texts of warnings: `${NAME}` stands as the files have it, not its value."""
    warned = (problem for problem in problems if problem.severity == "warning")
    return tuple(sorted(tree.sources.unfilled(problem.detail) for problem in warned))


def _check(given: Declarations, names: DeclaredNames, facts: ProjectFacts) -> Iterator[Problem]:
    yield from reference("FC1201", "tier", given.defaults.tier, names.tiers, ("defaults", "tier"))
    default = ("defaults", "rollout")
    yield from reference("FC1203", "rollout", given.defaults.rollout, names.rollouts, default)
    yield from check_former_names(given)
    yield from check_rollouts(given, names, facts)
    yield from check_plan_rules(given, names, facts)
    yield from check_signing_keys(given, facts)
    yield from check_bases(given, facts)
    yield from check_extensions(given)
    yield from check_hosts(given, names)
    yield from check_kinds(given, {profile.kind for profile in facts.profiles})
    yield from check_profiles(given, facts.profiles)
    yield from check_clients(given, names, facts)
    yield from check_same_bytes(given, facts.lock)
    yield from check_evals(given)
    yield from check_zone(given.costs.timezone, facts, ("costs", "timezone"))
    yield from check_keys(given, facts.fingerprints)


def _sorted(items: Iterable[tuple[str, Any]]) -> Mapping[str, Any]:
    return MappingProxyType(dict(sorted(items, key=lambda item: item[0])))


def _resolved(section: Mapping[str, Any], resolve: Callable[[str, Any], Any]) -> Mapping[str, Any]:
    return _sorted((name, resolve(name, declared)) for name, declared in section.items())


def _evals(declared: Evals) -> EvalPolicy:
    judge = declared.judge
    judge_spec = JudgeSpec(judge.url, judge.model, judge.key or "") if judge else None
    shared = {name: value for name, value in declared if name in EvalSpec.__match_args__}
    spec = EvalSpec(**{**shared, "timeout_s": declared.timeout, "judge": judge_spec})
    return EvalPolicy(spec, declared.every, declared.through, declared.keep)
