"""Placements of a small fleet on four GPUs of two hosts, built by hand."""

from collections.abc import Mapping
from dataclasses import replace

from fleet.hardware import BaseSpec, DeviceSpec, Profile, Speed
from fleet.placement.model.state import PlacementResult
from fleet.resources import Server, ServerFlags
from fleet.spec import AdapterSpec, DemandSpec, FleetSpec, PlacementPolicy
from tests.fleet.planning.builders import GIB, LLAMA_8B, adapter, base, device, fleet, host

ACME, BIRCH, CEDAR = (f"{client}-support-llama-v1.0.0" for client in ("acme", "birch", "cedar"))
DUNE = "dune-support-llama-v1.0.0"
LLAMA = base("llama", kv_cache_bytes=None, shape=LLAMA_8B, max_model_len=8192)
SPEED = Speed(step_s=0.01, request_s=5e-5, lora_factor=1.2, spread=0.01, prompt_weight=0.1)
PROFILE = Profile("llama", "h100_80g", 1, 64, "0.32.0", "bfloat16", SPEED, 0.02)
BUSY = DemandSpec(peak_rpm=60, prompt_tokens=500, output_tokens=200)


def card(name: str, port: int = 8000, **fields: object) -> DeviceSpec:
    made = device(name, kind="h100_80g", memory=80 * GIB, price=2.0, port=port)
    return replace(made, **fields)  # type: ignore[arg-type]


def flags(of: BaseSpec = LLAMA, **fields: object) -> ServerFlags:
    made = ServerFlags(
        of.model, of.name, 8, 16, 16, of.dtype, of.max_model_len, 1, 0.92, of.kv_cache_bytes
    )
    return replace(made, **fields)  # type: ignore[arg-type]


def server(where: str, *, of: BaseSpec = LLAMA, port: int = 8000, **fields: object) -> Server:
    """Build a server on `host/device` or `host/device+device`."""
    place, _, devices = where.partition("/")
    names = tuple(devices.split("+"))
    made = flags(of, **fields)
    return Server(f"{of.name}-{place}-{names[0]}", of.name, place, names, port, made.digest, made)


A0, A1, B0 = server("a/gpu0"), server("a/gpu1", port=8001), server("b/gpu0")
HOSTS = [host("a", card("gpu0"), card("gpu1", 8001)), host("b", card("gpu0"), card("gpu1", 8001))]


def placed(
    bindings: Mapping[str, tuple[str, ...]], *servers: Server, **fields: object
) -> PlacementResult:
    made = PlacementResult(
        servers={each.name: each for each in servers},
        bindings=bindings,
        why={},
        server_why={},
        capacity=(),
        unplaced={},
        tight=frozenset(),
        warnings=(),
        forced={},
        optional={},
        price=0.0,
        bound=0.0,
        status="feasible",
    )
    return replace(made, **fields)  # type: ignore[arg-type]


def declared(*adapters: AdapterSpec, **fields: object) -> FleetSpec:
    policy = PlacementPolicy(share_devices=True)
    given = {"bases": [LLAMA], "hosts": HOSTS, "policy": policy} | fields
    return replace(fleet(*adapters, **given), profiles=(PROFILE,))  # type: ignore[arg-type]


MANY = replace(BUSY, peak_rpm=6000)
TWO = adapter(ACME, replicas=2, demand=BUSY)
ONE = adapter(BIRCH, demand=BUSY)
IDLE = adapter(CEDAR)
PLAIN = declared(TWO, ONE, IDLE)
QUIET = declared(adapter(ACME, replicas=2), adapter(BIRCH), IDLE)
GOOD = placed({ACME: (A0.name, B0.name), BIRCH: (A0.name,), CEDAR: (B0.name,)}, A0, B0)


def with_rank(of: FleetSpec, name: str, rank: int) -> FleetSpec:
    versions = {**of.versions, name: replace(of.versions[name], rank=rank)}
    return replace(of, versions=versions)


def moved(**bindings: tuple[str, ...]) -> PlacementResult:
    """Bind clients' versions elsewhere than in the good placement."""
    changed = {f"{client}-support-llama-v1.0.0": each for client, each in bindings.items()}
    return replace(GOOD, bindings={**GOOD.bindings, **changed})


def also(
    *servers: Server, of: PlacementResult = GOOD, **bindings: tuple[str, ...]
) -> PlacementResult:
    made = moved(**bindings)
    every = {**of.servers, **{each.name: each for each in servers}}
    return replace(made, servers=dict(sorted(every.items())))
