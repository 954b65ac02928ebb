"""Chooses the flags of managed servers, and compares those of running and attached servers.

Flags are chosen once and kept as long as they suffice.
"""

from collections import defaultdict
from collections.abc import Container, Iterator, Mapping
from dataclasses import asdict, replace
from itertools import product

from fleet.errors import Diagnostic, problem
from fleet.hardware import AttachedFacts, AttachedServerSpec, BaseSpec, HostSpec
from fleet.names import Address, server_address
from fleet.resources import FORMATS, Hashed, Server, ServerFlags, State, differing, format_of
from fleet.spec import FleetSpec
from fleet.vllm.lora_slots import RANKS, SLOTS, USABLE, release

CPU_LORAS = (16, 32, 64, 128, 256, 512, 1024, 2048)
"""Values that the planner chooses for `--max-cpu-loras` where that is more than twice the slots."""


def cpu_loras_for(slots: int, listed: int) -> int:
    """Return `--max-cpu-loras`: twice the slots, or more where more versions are listed."""
    if listed <= 2 * slots:
        return 2 * slots
    return next((value for value in CPU_LORAS if value >= listed), listed)


SERVERS_PER_DEVICE = (1, 2, 3)
"""Numbers of servers that the planner divides a device among."""


def flags_for(
    base: BaseSpec,
    slots: int,
    rank: int,
    *,
    tensor_parallel: int = 1,
    servers_per_device: int = 1,
    listed: int = 0,
    image: str = "",
) -> ServerFlags:
    """Return the flags that a managed server of `base` starts with.

    `listed` is the number of versions that the server must be able to list at a time; `image` is
    that of its host.
    """
    share = USABLE if servers_per_device == 1 else round(USABLE / servers_per_device, 3)
    return ServerFlags(
        model=base.model,
        served_name=base.name,
        max_loras=slots,
        max_lora_rank=rank,
        max_cpu_loras=cpu_loras_for(slots, listed),
        dtype=base.dtype,
        max_model_len=base.max_model_len,
        tensor_parallel=tensor_parallel,
        memory_share=share if base.kv_cache_bytes is None else None,
        kv_cache_bytes=base.kv_cache_bytes,
        extra=base.extra,
        image=image,
    )


def flag_drift(
    base: BaseSpec,
    flags: ServerFlags | None,
    digest: str | None = None,
    formats: Mapping[int, Hashed] = FORMATS,
    image: str = "",
) -> str:
    """Say which flags of a live server are not as declared; empty when all may stay.

    `image` is that of the server's host. A flag that the planner chose earlier may stay, whatever
    the planner would choose today. A flag that only a later format adds may stay too: flags are
    compared in the format of the `digest` that the server shows.
    """
    if flags is None:
        return "its flags are unknown"
    desired = flags_for(
        base, base.slots or flags.max_loras, base.max_lora_rank or flags.max_lora_rank,
        tensor_parallel=base.tensor_parallel or flags.tensor_parallel, image=image,
    )  # fmt: skip
    if flags.max_cpu_loras >= desired.max_loras:
        desired = replace(desired, max_cpu_loras=flags.max_cpu_loras)
    if None not in (flags.memory_share, desired.memory_share):
        desired = replace(desired, memory_share=flags.memory_share)
    names = differing(asdict(desired), asdict(flags), format_of(digest), formats)
    return f"declared otherwise: {', '.join(names)}" if names else ""


def known_flags(base: BaseSpec, server: Server, image: str = "") -> ServerFlags | None:
    """Return a live server's flags: observed, or found by digest among the planner's choices."""
    if server.flags is not None or server.digest is None:
        return server.flags
    known, choices = server.digest, _choices(base, server, image)
    return next((choice for choice in choices if choice.digest_like(known) == known), None)


def _choices(base: BaseSpec, server: Server, image: str) -> Iterator[ServerFlags]:
    """Yield flags that the planner may have started a server with, the likely ones first."""
    every_slots = (base.slots,) if base.slots else SLOTS
    ranks = (base.max_lora_rank,) if base.max_lora_rank else RANKS
    for listed, servers, slots, rank in product(
        (0, *CPU_LORAS), SERVERS_PER_DEVICE, every_slots, ranks
    ):
        yield flags_for(
            base, slots, rank, tensor_parallel=max(len(server.devices), 1),
            servers_per_device=servers, listed=listed, image=image,
        )  # fmt: skip


def servers_per_device_of(flags: ServerFlags) -> int:
    """Return the number of servers that share a device, from a server's share of its memory."""
    return 1 if flags.memory_share is None else max(round(USABLE / flags.memory_share), 1)


def long_name(flag: str) -> str:
    """Return the name of a flag as fleetctl writes names: without leading dashes, with hyphens."""
    return flag.replace("_", "-").lstrip("-")


def with_engines(fleet: FleetSpec, live: State) -> FleetSpec:
    """Return the fleet with the known versions of vLLM on devices and servers.

    A declared version holds for the host; else the newest version that a server of the host
    answered, because all are started with the same interpreter. An attached server has the
    version that the server itself answered. Idempotent.
    """
    answered = _answered(live)
    hosts = {name: _host(host, answered.get(name, {})) for name, host in fleet.hosts.items()}
    return fleet if hosts == fleet.hosts else replace(fleet, hosts=hosts)


def disagreements(fleet: FleetSpec, live: State) -> Iterator[str]:
    """Yield a sentence for every host that runs another minor release of vLLM than declared."""
    answered = _answered(live)
    for name, host in fleet.hosts.items():
        declared = next((device.vllm for device in host.devices if device.vllm), "")
        seen = sorted({*answered.get(name, {}).values()})
        other = [version for version in seen if release(version) != release(declared)]
        if declared and other:
            yield (
                f"host `{name}` declares vLLM {declared}, and a server of it runs {other[0]}: it "
                f"is planned with {declared}"
            )


def _answered(live: State) -> dict[str, dict[str, str]]:
    versions: dict[str, dict[str, str]] = defaultdict(dict)
    for name, server in live.servers().items():
        if live.versions.get(name):
            versions[server.host][name] = live.versions[name]
    return versions


def _host(host: HostSpec, versions: dict[str, str]) -> HostSpec:
    if not versions:
        return host
    newest = max(versions.values(), key=lambda version: (release(version), version))
    return replace(
        host,
        devices=tuple(replace(device, vllm=device.vllm or newest) for device in host.devices),
        attached=tuple(
            replace(server, vllm=server.vllm or versions.get(server.name, ""))
            for server in host.attached
        ),
    )


def attached_faults(
    fleet: FleetSpec, live: State, servers: Container[str]
) -> Iterator[tuple[Address, Diagnostic]]:
    """Yield why an apply that loads or unloads on attached servers fails half-way, by server."""
    for place, server, facts in _answered_attached(fleet, live, servers):
        base = fleet.bases.get(server.base)
        where = f"`{server.name}` at {server.url}"
        if facts.takes_adapters is False:
            detail = f"{where} loads no adapters at run time."
            hint = "Start it with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=1, where "
            hint += "gateways and fleetctl alone reach it."
            yield _fault(server, detail, hint)
        if facts.max_loras is not None and facts.max_loras < server.max_loras:
            detail = f"{where} has {facts.max_loras} slots, and {server.max_loras} are declared."
            yield _fault(server, detail, f"Correct `{place}.max_loras`, or start it with more.")
        declared, length = base.max_model_len if base else None, facts.max_model_len
        if declared and length and declared != length:
            detail = f"{where} has max_model_len {length}, and its base declares {declared}."
            hint = f"Correct `{place}.base`, or `bases.{server.base}.max_model_len`."
            yield _fault(server, detail, hint)


def attached_unknowns(
    fleet: FleetSpec, live: State, servers: Container[str]
) -> Iterator[tuple[Address, str]]:
    """Yield the facts of attached servers that cannot be seen, by server."""
    for _, server, facts in _answered_attached(fleet, live, servers):
        base, address = fleet.bases.get(server.base), server_address(server.name)
        if facts.takes_adapters is None:
            yield address, "whether it loads adapters at run time is not visible"
        if facts.max_loras is None:
            yield address, "its slots are not visible before a first request to an adapter"
        if base and facts.root not in {base.model, base.name, *base.known_as}:
            named = f"`{facts.root}`" if facts.root else "a base that it does not name"
            text = f"it serves {named}, and whether that is base `{base.name}` is not visible"
            yield address, f"{text}; `known_as` of the base says so"


def _answered_attached(
    fleet: FleetSpec, live: State, servers: Container[str]
) -> Iterator[tuple[str, AttachedServerSpec, AttachedFacts]]:
    """Yield servers that have answered, with their place in the declarations and the answer."""
    for host in fleet.hosts.values():
        for server in host.attached:
            facts = live.attached.get(server.name)
            if facts is not None and server.name in servers:
                yield f"hosts.{host.name}.servers.{server.name}", server, facts


def _fault(server: AttachedServerSpec, detail: str, hint: str) -> tuple[Address, Diagnostic]:
    return server_address(server.name), problem(
        "FC4037", "Attached server is not as declared", detail, hint=hint, command="fleetctl plan"
    )
