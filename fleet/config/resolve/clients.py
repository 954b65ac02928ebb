"""Resolves tiers, clients and adapters to what the planner reads."""

from collections.abc import Iterator, Mapping

from fleet.config.facts import ProjectFacts
from fleet.config.schema.clients import Adapter, Client, Demand, Tier
from fleet.config.schema.fleet import Declarations
from fleet.config.schema.traffic import Limits, Notify, Shadow
from fleet.names import AdapterName, Version, alias_name
from fleet.response_format import FormatKind, ResponseFormat
from fleet.spec import (
    AdapterSpec,
    ClientKey,
    ClientSpec,
    DemandSpec,
    LatencyClass,
    NotifySpec,
    TierSpec,
)
from fleet.traffic import LimitPolicy, ShadowPolicy, Sticky, TimeoutPolicy

USUAL_SLO_S: Mapping[LatencyClass, float] = {
    "classification": 0.5,
    "short_generation": 2.0,
    "long_generation": 10.0,
}
"""The p95 of an answer where the tier promises no other, by latency class, in seconds."""


def tiers(given: Declarations) -> dict[str, Tier]:
    """Return the tiers, with the undeclared default tier."""
    return {"standard": Tier(), **given.tiers}


def tier(name: str, declared: Tier) -> TierSpec:
    """Resolve a tier."""
    promised: tuple[tuple[LatencyClass, float | None], ...] = (
        ("classification", declared.slo.classification),
        ("long_generation", declared.slo.long_generation),
        ("short_generation", declared.slo.short_generation),
    )
    return TierSpec(
        name,
        declared.replicas,
        declared.retrain_every,
        declared.spread,
        declared.isolation,
        declared.residency,
        tuple((latency, seconds) for latency, seconds in promised if seconds is not None),
        TimeoutPolicy(
            declared.timeouts.first_byte, declared.timeouts.idle, declared.timeouts.total
        ),
        declared.weight,
    )


def client(name: str, declared: Client, given: Declarations, facts: ProjectFacts) -> ClientSpec:
    """Resolve a client with its keys."""
    keys = tuple(
        ClientKey(key, reference, facts.fingerprints.get(reference))
        for key, reference in sorted(declared.keys.items())
    )
    named = declared.tier or given.defaults.tier
    usual = tiers(given).get(named, Tier())
    allowed = limits(declared.limits, usual.limits)
    billed = usual.bill_evals if declared.bill_evals is None else declared.bill_evals
    told = notify(declared.notify)
    return ClientSpec(name, named, declared.monthly_fee, keys, allowed, told, billed)


def notify(declared: Notify | None) -> NotifySpec | None:
    """Resolve where notices go, and of which events; which is listed first means nothing."""
    events = tuple(sorted({*declared.events})) if declared else ()
    return NotifySpec(declared.webhook, declared.template, events) if declared else None


def limits(own: Limits, usual: Limits | None = None) -> LimitPolicy:
    """Resolve limits; a limit that is not declared is taken from `usual`."""
    first, then = own, usual or Limits()
    return LimitPolicy(
        first.concurrency or then.concurrency,
        first.requests_per_minute or then.requests_per_minute,
        first.tokens_per_minute or then.tokens_per_minute,
        first.queue or then.queue,
    )


def adapters(given: Declarations, facts: ProjectFacts) -> Iterator[tuple[str, AdapterSpec]]:
    """Yield every adapter by its alias."""
    known = {name: tier(name, declared) for name, declared in tiers(given).items()}
    for owner, its in given.clients.items():
        named = its.tier or given.defaults.tier
        promised = known.get(named) or TierSpec(named, 1, None)
        for task, adapter in its.adapters.items():
            made = _adapter(owner, task, adapter, promised, given, facts)
            yield made.alias, made


def _adapter(
    owner: str,
    task: str,
    declared: Adapter,
    promised: TierSpec,
    given: Declarations,
    facts: ProjectFacts,
) -> AdapterSpec:
    name = AdapterName(owner, task, declared.base, Version.parse(declared.version))
    latency = declared.latency or given.defaults.latency
    return AdapterSpec(
        name=name,
        rollout=declared.rollout or given.defaults.rollout,
        demand=_demand(declared.demand, facts, name.alias) if declared.demand else None,
        latency=latency,
        replicas=declared.replicas or promised.replicas,
        pin=declared.pin,
        golden=declared.golden,
        rolling=declared.rolling,
        retrain=declared.retrain or given.defaults.retrain,
        smoke=declared.smoke,
        tier=promised.name,
        slo_s=dict(promised.slo_s).get(latency, USUAL_SLO_S[latency]),
        promised=latency in dict(promised.slo_s),
        avoid=tuple(sorted({*declared.avoid})),
        apart=tuple(sorted(_apart(name, declared, given))),
        spread=declared.spread or promised.spread,
        isolation=declared.isolation or promised.isolation,
        residency=declared.residency or promised.residency,
        format=_format(declared.format, facts),
        sticky=Sticky(declared.sticky),
        limits=limits(declared.limits),
        choices=declared.choices,
        shadow=_shadow(name, declared.shadow),
    )


def _format(given: ResponseFormat | None, facts: ProjectFacts) -> ResponseFormat | None:
    """Put the text of a schema in the place of its file's name."""
    if given is None or given.kind is not FormatKind.SCHEMA:
        return given
    return ResponseFormat(FormatKind.SCHEMA, facts.schemas.get(given.text) or "true")


def _shadow(name: AdapterName, given: Shadow | None) -> ShadowPolicy | None:
    if given is None:
        return None
    copy = AdapterName(name.client, name.task, name.base, Version.parse(given.version))
    return ShadowPolicy(str(copy), (), given.percent, given.concurrency)


def _apart(name: AdapterName, declared: Adapter, given: Declarations) -> set[str]:
    """Return the clients and aliases that an adapter is kept apart from."""
    others = {*declared.apart} - {name.client}
    if name.client in declared.apart:
        others |= {alias_name(name.client, task) for task in given.clients[name.client].adapters}
    return others - {name.alias}


def _demand(declared: Demand, facts: ProjectFacts, alias: str) -> DemandSpec:
    known = facts.observed.get(alias)
    seen = known if declared.observed else None
    peak = declared.peak_rpm or 0.0
    return DemandSpec(
        peak_rpm=max(seen.rpm) if seen else peak,
        hours=declared.hours,
        timezone=declared.timezone,
        batch=declared.batch,
        prompt_tokens=(seen and seen.prompt_tokens) or declared.prompt_tokens,
        output_tokens=(seen and seen.output_tokens) or declared.output_tokens,
        offsets=facts.zones.get(declared.timezone) or (0,),
        observed=seen.rpm if seen else None,
        faults=known.faults if known else None,
    )


def renames(given: Declarations) -> Iterator[tuple[str, str]]:
    """Yield the renamed aliases with their former names."""
    for owner, its in given.clients.items():
        for task, adapter in its.adapters.items():
            if adapter.formerly:
                yield alias_name(owner, task), adapter.formerly
