"""Resolves bases, hosts, gateways, rollouts, gates and overrides to what the planner reads."""

from collections.abc import Iterator
from dataclasses import replace

from fleet import rollout_policy
from fleet.config.checks.machines import ports_of
from fleet.config.facts import ProjectFacts
from fleet.config.schema.fleet import Declarations
from fleet.config.schema.machines import Base, Gateway, Host
from fleet.config.schema.rollouts import Gate, Override, Rollout
from fleet.hardware import AttachedServerSpec, BaseSpec, DeviceSpec, DeviceState, HostSpec
from fleet.names import by_number
from fleet.spec import GatewaySpec

_STRICTNESS = ("active", "cordoned", "draining")


def gateway(name: str, each: Gateway) -> GatewaySpec:
    """Resolve a gateway."""
    return GatewaySpec(name, each.listen, each.admin or "", each.secret or "", kind=each.kind)


def base(name: str, each: Base, facts: ProjectFacts) -> BaseSpec:
    """Resolve a base."""
    return BaseSpec(
        name=name,
        model=each.model,
        dtype=each.dtype,
        max_model_len=each.max_model_len,
        kv_cache_bytes=each.kv_cache,
        min_kv_tokens=each.min_kv_tokens,
        slots=each.max_loras,
        max_lora_rank=each.max_lora_rank,
        extra=tuple(sorted(_flag(flag, value) for flag, value in each.flags.items())),
        shape=facts.shape(name),
        tensor_parallel=each.tensor_parallel,
        reserves=tuple(
            (its.kind, its.tensor_parallel, its.vllm, its.reserve_bytes)
            for its in facts.profiles
            if its.base == name and its.reserve_bytes is not None
        ),
        max_in_flight=each.max_in_flight,
    )


def _flag(name: str, value: str | float | bool) -> tuple[str, str]:  # noqa: FBT001 (a YAML value)
    if isinstance(value, bool):
        return (name if value else f"no-{name}"), ""
    return name, str(value)


def host(name: str, each: Host) -> HostSpec:
    """Resolve a host; its state holds for whatever is on it and says nothing stricter.

    Devices are in the order of their names: neighbours among them share a server of several.
    """
    ports = ports_of(each)
    devices = tuple(
        DeviceSpec(
            device,
            its.kind,
            its.memory,
            its.price_per_hour,
            ports[device],
            _stricter(each.state, its.state),
            each.vllm or "",
        )
        for device, its in sorted(each.devices.items(), key=lambda pair: by_number(pair[0]))
    )
    attached = tuple(
        AttachedServerSpec(
            server,
            its.url,
            its.base,
            its.max_loras,
            its.max_lora_rank,
            its.price_per_hour,
            _stricter(each.state, its.state),
            each.vllm or "",
        )
        for server, its in sorted(each.servers.items())
    )
    paths = tuple(sorted(each.paths.items(), key=lambda pair: (-len(pair[0]), pair[0])))
    return HostSpec(
        name,
        each.engine,
        devices,
        attached,
        each.python or "",
        paths,
        each.address,
        tuple(sorted({*each.reserved_for})),
        each.memory,
    )


def _stricter(whole: DeviceState, own: DeviceState) -> DeviceState:
    return max(whole, own, key=_STRICTNESS.index)


def rollouts(
    given: Declarations, facts: ProjectFacts
) -> Iterator[tuple[str, rollout_policy.RolloutPolicy]]:
    """Yield the rollouts by name, with the one that exists undeclared."""
    for name, each in {"standard": Rollout(), **given.rollouts}.items():
        closed = sorted({*each.no_promote}, key=lambda its: (its.begins, its.ends, its.text))
        yield (
            name,
            rollout_policy.RolloutPolicy(
                name,
                each.weights,
                each.bake,
                each.retain,
                _once(each.gates),
                max_bake=each.max_bake,
                no_promote=tuple(closed),
                offsets=facts.zones.get(each.timezone) or (0,),
                when_unsure=each.when_unsure,
                low_traffic=each.low_traffic,
                drill=each.drill,
            ),
        )


def gate(name: str, each: Gate) -> rollout_policy.GateSpec:
    """Resolve a gate."""
    usual = rollout_policy.GateSpec(name, each.metric, each.max.number, each.max.unit, each.golden)
    return replace(
        usual,
        score=each.score,
        samples=each.samples or usual.samples,
        floor=None if each.floor is None else each.floor / 100,
        tolerate=each.tolerate.number if each.tolerate else usual.tolerate,
        min_requests=each.min_requests or usual.min_requests,
        false_alarm=each.false_alarm / 100 if each.false_alarm else usual.false_alarm,
    )


def _once(gates: tuple[str, ...]) -> tuple[str, ...]:
    """Return gates by name, each once: all of them must pass, whichever is listed first."""
    return tuple(sorted({*gates}))


def override(name: str, each: Override) -> rollout_policy.OverrideSpec:
    """Resolve an override."""
    return rollout_policy.OverrideSpec(
        name, each.accept, each.alias, _once(each.gates), each.reason, each.by, each.until
    )
