"""Bases, hosts and gateways as the planner reads them."""

from fleet import declarations as yaml
from fleet import declared
from fleet.crosscheck import Facts
from fleet.crosscheck.machines import ports_of
from fleet.names import by_number

_STRICTNESS = ("active", "cordoned", "draining")


def gateway(name: str, each: yaml.Gateway) -> declared.Gateway:
    """Resolve a gateway."""
    return declared.Gateway(name, each.listen, each.admin or "", each.secret or "", kind=each.kind)


def base(name: str, each: yaml.Base, facts: Facts) -> declared.Base:
    """Resolve a base."""
    return declared.Base(
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


def host(name: str, each: yaml.Host) -> declared.Host:
    """Resolve a host; its state holds for whatever is on it and says nothing stricter.

    Devices are in the order of their names: neighbours among them share a server of several.
    """
    ports = ports_of(each)
    devices = tuple(
        declared.Device(
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
        declared.AttachedServer(
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
    return declared.Host(
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


def _stricter(whole: declared.State, own: declared.State) -> declared.State:
    return max(whole, own, key=_STRICTNESS.index)
