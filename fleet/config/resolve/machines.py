"""Resolves bases, hosts, gateways, rollouts, gates, overrides and rules of plans."""

from collections.abc import Mapping
from dataclasses import replace

from fleet.config.checks import ProjectFacts
from fleet.config.checks.bases import as_flag
from fleet.config.checks.machines import ports_of
from fleet.config.schema.fleet import Declarations
from fleet.config.schema.machines import Base, Device, Gateway, Host, Tls
from fleet.config.schema.rollouts import Gate, Override, PlanRule, Rollout
from fleet.hardware import (
    AttachedServerSpec,
    BaseSpec,
    DeviceSpec,
    DeviceState,
    HostSpec,
    ServerTls,
    sheet_of,
)
from fleet.names import by_number
from fleet.policies import (
    INTACT,
    REPLAY,
    GateSpec,
    OverrideSpec,
    PlanRuleSpec,
    RolloutPolicy,
    RuleExceptionSpec,
    RuleLevel,
    SigningKeySpec,
    SigningSpec,
)
from fleet.spec import GatewaySpec

_STRICTNESS = ("active", "cordoned", "draining")


def gateway(
    name: str, declared: Gateway, servers_secret: str | None, hosts: Mapping[str, Host]
) -> GatewaySpec:
    """Resolve a gateway."""
    host = hosts.get(declared.host or "")
    attached = dict(pair for owner in hosts.values() for pair in owner.servers.items())
    return GatewaySpec(
        name,
        declared.listen,
        declared.admin or "",
        declared.secret or "",
        declared.kind,
        servers_secret or "",
        declared.certificate or "",
        host.address if host else "",
        tuple(sorted((server, its.api_key) for server, its in attached.items() if its.api_key)),
        tuple((server, tls) for server, its in sorted(attached.items()) if (tls := _tls(its.tls))),
        declared.usage_log or 0,
    )


def _tls(declared: Tls | None) -> ServerTls | None:
    return ServerTls(**{key: path or "" for key, path in declared}) if declared else None


def base(name: str, declared: Base, facts: ProjectFacts) -> BaseSpec:
    """Resolve a base."""
    shared = dict(declared)
    kv_cache, slots, flags = (shared.pop(key) for key in ("kv_cache", "max_loras", "flags"))
    del shared["formerly"]
    shape, weights = facts.shape(name), shared.pop("weight_bytes")
    return BaseSpec(
        name=name,
        kv_cache_bytes=kv_cache,
        slots=slots,
        extra=tuple(sorted(as_flag(flag, value) for flag, value in flags.items())),
        shape=replace(shape, weight_bytes=weights) if shape and weights else shape,
        reserves=tuple(
            (its.kind, its.tensor_parallel, its.vllm, its.reserve_bytes)
            for its in facts.profiles
            if its.base == name and its.reserve_bytes is not None
        ),
        **shared,
    )


def host(name: str, declared: Host, packages: Mapping[str, str]) -> HostSpec:
    """Resolve a host; `packages` are by engine that fleetctl does not ship.

    Its state holds for every device that declares no stricter one. Devices are in the order of
    their names: neighbours share a server of several devices.
    """
    ports = ports_of(declared)
    devices = tuple(
        DeviceSpec(
            device,
            its.kind,
            _memory(its),
            its.price_per_hour,
            ports[device],
            _stricter(declared.state, its.state),
            declared.vllm or "",
            its.memory_bandwidth and its.memory_bandwidth * 1e9,
            its.tflops and its.tflops * 1e12,
        )
        for device, its in sorted(declared.devices.items(), key=lambda pair: by_number(pair[0]))
    )
    attached = tuple(
        AttachedServerSpec(
            server,
            vllm=declared.vllm or "",
            **{
                **dict(its),
                "state": _stricter(declared.state, its.state),
                "api_key": its.api_key or "",
                "tls": _tls(its.tls),
            },
        )
        for server, its in sorted(declared.servers.items())
    )
    paths = tuple(sorted(declared.paths.items(), key=lambda pair: (-len(pair[0]), pair[0])))
    return HostSpec(
        name,
        declared.engine,
        devices,
        attached,
        declared.python or "",
        paths,
        declared.node or declared.address,
        tuple(sorted({*declared.reserved_for})),
        declared.memory,
        declared.restart_after.total_seconds(),
        declared.billing,
        declared.store or "",
        declared.supervisor or "",
        declared.image or "",
        declared.vllm or "",
        declared.cluster or "",
        declared.token or "",
        declared.fetch,
        packages.get(declared.engine, ""),
    )


def _memory(declared: Device) -> int:
    """Return the memory that servers find on a device: declared, at most what drivers report."""
    sheet = sheet_of(declared.kind)
    return min(declared.memory, sheet.memory_bytes or declared.memory if sheet else declared.memory)


def _stricter(whole: DeviceState, own: DeviceState) -> DeviceState:
    return max(whole, own, key=_STRICTNESS.index)


def rollout(name: str, declared: Rollout, facts: ProjectFacts) -> RolloutPolicy:
    """Resolve a rollout."""
    shared = dict(declared)
    zone, closed = shared.pop("timezone"), {*shared.pop("no_promote")}
    return RolloutPolicy(
        name,
        no_promote=tuple(sorted(closed, key=lambda part: (part.begins, part.ends, part.text))),
        offsets=facts.zones.get(zone) or (0,),
        **{**shared, "gates": _once(declared.gates)},
    )


def gate(name: str, declared: Gate) -> GateSpec:
    """Resolve a gate."""
    usual = GateSpec(name, declared.metric, declared.max.number, declared.max.unit, declared.golden)
    return replace(
        usual,
        score=declared.score or (INTACT if declared.metric == REPLAY else None),
        samples=declared.samples or usual.samples,
        floor=None if declared.floor is None else declared.floor / 100,
        alarm_at=declared.alarm.number if declared.alarm else None,
        tolerate=declared.tolerate.number if declared.tolerate else usual.tolerate,
        min_requests=declared.min_requests or usual.min_requests,
        false_alarm=declared.false_alarm / 100 if declared.false_alarm else usual.false_alarm,
    )


def _once(gates: tuple[str, ...]) -> tuple[str, ...]:
    """Return gates without repetition, sorted by name: all of them must pass."""
    return tuple(sorted({*gates}))


def override(name: str, declared: Override) -> OverrideSpec:
    """Resolve an override."""
    return OverrideSpec(name, **{**dict(declared), "gates": _once(declared.gates)})


def plan_rule(name: str, declared: PlanRule, facts: ProjectFacts) -> PlanRuleSpec:
    """Resolve a rule of plans."""
    return PlanRuleSpec(
        name,
        RuleLevel(declared.level),
        declared.max_traffic_per_day,
        tuple(sorted({*declared.closed}, key=lambda part: (part.begins, part.ends, part.text))),
        declared.timezone,
        facts.zones.get(declared.timezone) or (0,),
        declared.two_approvals or "",
        declared.signed or "",
        declared.max_cost_rise,
        tuple(
            RuleExceptionSpec(key, its.client or "", its.adapter or "", its.until, its.reason)
            for key, its in sorted(declared.exceptions.items())
        ),
    )


def signing(given: Declarations, facts: ProjectFacts) -> SigningSpec:
    """Return the keys that can be read, and the signatures in the lock."""
    keys = (
        SigningKeySpec(name, facts.signing_keys.get(its.file) or "", its.until)
        for name, its in sorted(given.signatures.items())
    )
    signed = {
        name: entry.signature.told
        for name, entry in sorted(facts.lock.adapters.items())
        if entry.signature
    }
    return SigningSpec(tuple(key for key in keys if key.fingerprint), signed)
