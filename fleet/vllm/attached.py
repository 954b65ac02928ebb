"""Compares attached servers, whose flags others choose, with their declarations."""

from collections.abc import Container, Iterator

from fleet.errors import Diagnostic, problem
from fleet.hardware import AttachedFacts, AttachedServerSpec
from fleet.names import Address, server_address
from fleet.resources import State
from fleet.spec import FleetSpec


def attached_faults(
    fleet: FleetSpec, live: State, servers: Container[str]
) -> Iterator[tuple[Address, Diagnostic]]:
    """Yield why an apply that loads or unloads on attached servers fails half-way, by server."""
    for place, server, facts in _answered(fleet, live, servers):
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
    for _, server, facts in _answered(fleet, live, servers):
        base, address = fleet.bases.get(server.base), server_address(server.name)
        if facts.takes_adapters is None:
            yield address, "whether it loads adapters at run time is not visible"
        if facts.max_loras is None:
            yield address, "its slots are not visible before a first request to an adapter"
        if base and facts.root not in {base.model, base.name, *base.known_as}:
            named = f"`{facts.root}`" if facts.root else "a base that it does not name"
            text = f"it serves {named}, and whether that is base `{base.name}` is not visible"
            yield address, f"{text}; `known_as` of the base says so"


def _answered(
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
