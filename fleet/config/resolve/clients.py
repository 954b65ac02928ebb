"""Resolves tiers, clients and adapters to values of the planner."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from math import ceil, inf, isfinite

from fleet.config.checks import ProjectFacts
from fleet.config.checks.references import DeclaredAdapter, adapters_of
from fleet.config.schema.clients import Client, Demand, Tier
from fleet.config.schema.fleet import Declarations
from fleet.config.schema.traffic import ClientNotify, Limits, Notify, Shadow
from fleet.names import AdapterName, Version, alias_name
from fleet.policies import ClientCosts
from fleet.response_format import FormatKind, ResponseFormat
from fleet.spec import (
    AdapterSpec,
    ClientKey,
    ClientSpec,
    DemandSpec,
    LatencyClass,
    MailSpec,
    NotifyEvent,
    NotifySpec,
    TierSpec,
)
from fleet.traffic import Budget, CapturePolicy, LimitPolicy, ShadowPolicy, Sticky, TimeoutPolicy

USUAL_SLO_S: Mapping[LatencyClass, float] = {
    "classification": 0.5,
    "short_generation": 2.0,
    "long_generation": 10.0,
}
"""The aim for the p95 of an answer where the tier says no other, by latency class, in seconds."""


def tiers(given: Declarations) -> dict[str, Tier]:
    """Return the tiers, with the undeclared default tier."""
    return {"standard": Tier(), **given.tiers}


def tier(name: str, declared: Tier) -> TierSpec:
    """Resolve a tier."""
    times = declared.timeouts
    promised = {latency: getattr(declared.slo, latency) for latency in sorted(USUAL_SLO_S)}
    return TierSpec(
        name,
        declared.replicas,
        declared.retrain_every,
        declared.spread,
        declared.isolation,
        declared.residency,
        tuple((latency, seconds) for latency, seconds in promised.items() if seconds is not None),
        TimeoutPolicy(times.first_byte, times.idle, times.total),
        declared.weight,
    )


def client(name: str, declared: Client, given: Declarations, facts: ProjectFacts) -> ClientSpec:
    """Resolve a client with its keys."""
    keys = tuple(
        ClientKey(key, reference, facts.fingerprints.get(reference), reference in facts.weak)
        for key, reference in sorted(declared.keys.items())
    )
    named = declared.tier or given.defaults.tier
    usual = tiers(given).get(named, Tier())
    allowed = limits(declared.limits, usual.limits)
    billed = usual.bill_evals if declared.bill_evals is None else declared.bill_evals
    notices = notify(declared.notify)
    above = declared.overage
    costs = ClientCosts(
        usual.staff_hours if declared.staff_hours is None else declared.staff_hours,
        usual.staff_rate if declared.staff_rate is None else declared.staff_rate,
        above.above if above else 0,
        above.per_million if above else 0.0,
    )
    agreed, capture = declared.capture, None
    if agreed:
        capture = CapturePolicy(agreed.share, max(1, ceil(agreed.keep / timedelta(days=1))))
    return ClientSpec(
        name, named, declared.monthly_fee, keys, allowed, notices, billed, costs, capture
    )


def notify(declared: Notify | ClientNotify | None) -> NotifySpec | None:
    """Resolve the receivers and the events of notices; the order of the events means nothing."""
    if declared is None:
        return None
    given, mail = declared.mail, None
    if given:
        mail = MailSpec(given.server, given.sender, given.to, given.login or "")
    alertmanager = declared.alertmanager if isinstance(declared, Notify) else None
    events: tuple[NotifyEvent, ...] = tuple(sorted({*declared.events}))
    receivers = declared.webhook or "", declared.template, events
    sinks = dict(sorted(declared.sinks.items()))
    return NotifySpec(*receivers, mail, alertmanager or "", sinks)


def limits(own: Limits, usual: Limits = Limits()) -> LimitPolicy:  # noqa: B008 (frozen)
    """Resolve limits; a limit that is not declared is taken from `usual`."""
    return LimitPolicy(
        own.concurrency or usual.concurrency,
        own.requests_per_minute or usual.requests_per_minute,
        own.tokens_per_minute or usual.tokens_per_minute,
        own.queue or usual.queue,
        own.requests_per_month or usual.requests_per_month,
        own.tokens_per_month or usual.tokens_per_month,
        own.budget or usual.budget or Budget.SOFT,
    )


def adapters(given: Declarations, facts: ProjectFacts) -> Iterator[tuple[str, AdapterSpec]]:
    """Yield every adapter by its alias."""
    known = {name: tier(name, declared) for name, declared in tiers(given).items()}
    for adapter in adapters_of(given):
        tier_spec = known.get(adapter.tier) or TierSpec(adapter.tier, 1, None)
        yield adapter.alias, _adapter(adapter, tier_spec, given, facts)


def _adapter(
    adapter: DeclaredAdapter, promised: TierSpec, given: Declarations, facts: ProjectFacts
) -> AdapterSpec:
    declared = adapter.declared
    version = Version.parse(declared.version)
    name = AdapterName(adapter.client, str(adapter.path[-1]), declared.base, version)
    latency = declared.latency or given.defaults.latency
    slo_s = dict(promised.slo_s).get(latency)
    is_promise = slo_s is not None and isfinite(slo_s)
    shared = ("pin", "golden", "rolling", "smoke", "choices")
    of_tier = ("replicas", "spread", "isolation", "residency")
    return AdapterSpec(
        name=name,
        rollout=declared.rollout or given.defaults.rollout,
        demand=_demand(declared.demand, facts, name.alias) if declared.demand else None,
        latency=latency,
        retrain=declared.retrain or given.defaults.retrain,
        tier=promised.name,
        slo_s=slo_s if slo_s is not None and is_promise else USUAL_SLO_S[latency],
        promised=is_promise,
        aimed=slo_s != inf,
        avoid=tuple(sorted({*declared.avoid})),
        apart=tuple(sorted(_apart(adapter, given))),
        format=_format(declared.format, facts),
        sticky=Sticky(declared.sticky),
        limits=limits(declared.limits),
        shadow=_shadow(name, declared.shadow),
        alias_for=declared.alias_for or "",
        served_as=declared.served_as or declared.alias_for or "",
        **{key: getattr(declared, key) for key in shared},
        **{key: getattr(declared, key) or getattr(promised, key) for key in of_tier},
    )


def _format(given: ResponseFormat | None, facts: ProjectFacts) -> ResponseFormat | None:
    """Replace the file name of a schema by the schema's text."""
    if given is None or given.kind is not FormatKind.SCHEMA:
        return given
    return ResponseFormat(FormatKind.SCHEMA, facts.schemas.get(given.text) or "true")


def _shadow(name: AdapterName, given: Shadow | None) -> ShadowPolicy | None:
    if given is None:
        return None
    copy = replace(name, version=Version.parse(given.version))
    return ShadowPolicy(str(copy), (), given.percent, given.concurrency)


def _apart(adapter: DeclaredAdapter, given: Declarations) -> set[str]:
    others = {*adapter.declared.apart} - {adapter.client}
    if adapter.client in adapter.declared.apart:
        tasks = given.clients[adapter.client].adapters
        others |= {alias_name(adapter.client, task) for task in tasks}
    return others - {adapter.alias}


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
        users=known.users if known else None,
    )


def renames(given: Declarations) -> Iterator[tuple[str, str]]:
    """Yield the renamed aliases with their former names."""
    for adapter in adapters_of(given):
        if adapter.declared.formerly:
            yield adapter.alias, adapter.declared.formerly
