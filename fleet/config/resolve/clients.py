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
    """Return the tiers, with the one that exists undeclared."""
    return {"standard": Tier(), **given.tiers}


def tier(name: str, each: Tier) -> TierSpec:
    """Resolve a tier."""
    promised: tuple[tuple[LatencyClass, float | None], ...] = (
        ("classification", each.slo.classification),
        ("long_generation", each.slo.long_generation),
        ("short_generation", each.slo.short_generation),
    )
    return TierSpec(
        name,
        each.replicas,
        each.retrain_every,
        each.spread,
        each.isolation,
        each.residency,
        tuple((latency, seconds) for latency, seconds in promised if seconds is not None),
        TimeoutPolicy(each.timeouts.first_byte, each.timeouts.idle, each.timeouts.total),
        each.weight,
    )


def client(name: str, each: Client, given: Declarations, facts: ProjectFacts) -> ClientSpec:
    """Resolve a client with its keys."""
    keys = tuple(
        ClientKey(key, reference, facts.fingerprints.get(reference))
        for key, reference in sorted(each.keys.items())
    )
    named = each.tier or given.defaults.tier
    usual = tiers(given).get(named, Tier())
    allowed = limits(each.limits, usual.limits)
    billed = usual.bill_evals if each.bill_evals is None else each.bill_evals
    told = notify(each.notify)
    return ClientSpec(name, named, each.monthly_fee, keys, allowed, told, billed)


def notify(each: Notify | None) -> NotifySpec | None:
    """Resolve where notices go, and of which events; which is listed first means nothing."""
    events = tuple(sorted({*each.events})) if each else ()
    return NotifySpec(each.webhook, each.template, events) if each else None


def limits(own: Limits, usual: Limits | None = None) -> LimitPolicy:
    """Resolve limits: what they do not say, `usual` does."""
    first, then = own, usual or Limits()
    return LimitPolicy(
        first.concurrency or then.concurrency,
        first.requests_per_minute or then.requests_per_minute,
        first.tokens_per_minute or then.tokens_per_minute,
        first.queue or then.queue,
    )


def adapters(given: Declarations, facts: ProjectFacts) -> Iterator[tuple[str, AdapterSpec]]:
    """Yield every adapter by its alias."""
    known = {name: tier(name, each) for name, each in tiers(given).items()}
    for owner, its in given.clients.items():
        named = its.tier or given.defaults.tier
        promised = known.get(named) or TierSpec(named, 1, None)
        for task, each in its.adapters.items():
            made = _adapter(owner, task, each, promised, given, facts)
            yield made.alias, made


def _adapter(
    owner: str,
    task: str,
    each: Adapter,
    promised: TierSpec,
    given: Declarations,
    facts: ProjectFacts,
) -> AdapterSpec:
    name = AdapterName(owner, task, each.base, Version.parse(each.version))
    latency = each.latency or given.defaults.latency
    return AdapterSpec(
        name=name,
        rollout=each.rollout or given.defaults.rollout,
        demand=_demand(each.demand, facts, name.alias) if each.demand else None,
        latency=latency,
        replicas=each.replicas or promised.replicas,
        pin=each.pin,
        golden=each.golden,
        rolling=each.rolling,
        retrain=each.retrain or given.defaults.retrain,
        smoke=each.smoke,
        tier=promised.name,
        slo_s=dict(promised.slo_s).get(latency, USUAL_SLO_S[latency]),
        promised=latency in dict(promised.slo_s),
        avoid=tuple(sorted({*each.avoid})),
        apart=tuple(sorted(_apart(name, each, given))),
        spread=each.spread or promised.spread,
        isolation=each.isolation or promised.isolation,
        residency=each.residency or promised.residency,
        format=_format(each.format, facts),
        sticky=Sticky(each.sticky),
        limits=limits(each.limits),
        choices=each.choices,
        shadow=_shadow(name, each.shadow),
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


def _apart(name: AdapterName, each: Adapter, given: Declarations) -> set[str]:
    """Return whom an adapter is kept apart from; its own client: that one's other adapters."""
    others = {*each.apart} - {name.client}
    if name.client in each.apart:
        others |= {alias_name(name.client, task) for task in given.clients[name.client].adapters}
    return others - {name.alias}


def _demand(each: Demand, facts: ProjectFacts, alias: str) -> DemandSpec:
    known = facts.observed.get(alias)
    seen = known if each.observed else None
    peak = each.peak_rpm or 0.0
    return DemandSpec(
        peak_rpm=max(seen.rpm) if seen else peak,
        hours=each.hours,
        timezone=each.timezone,
        batch=each.batch,
        prompt_tokens=(seen and seen.prompt_tokens) or each.prompt_tokens,
        output_tokens=(seen and seen.output_tokens) or each.output_tokens,
        offsets=facts.zones.get(each.timezone) or (0,),
        observed=seen.rpm if seen else None,
        faults=known.faults if known else None,
    )


def renames(given: Declarations) -> Iterator[tuple[str, str]]:
    """Yield each renamed alias with what it was called before."""
    for owner, its in given.clients.items():
        for task, each in its.adapters.items():
            if each.formerly:
                yield alias_name(owner, task), each.formerly
