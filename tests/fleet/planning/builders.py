"""Small fleets, live states and histories, built as values."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from fleet.errors import Position
from fleet.hardware import (
    AttachedServerSpec,
    BaseShape,
    BaseSpec,
    DeviceSpec,
    DeviceState,
    HostSpec,
)
from fleet.history.values import Block, History, RolloutStage
from fleet.names import AdapterName, Address
from fleet.policies import GateSpec, RolloutPolicy
from fleet.resources import LoadedAdapter, Resource, Route, Share, State
from fleet.spec import (
    AdapterFacts,
    AdapterSpec,
    ClientKey,
    ClientSpec,
    DemandSpec,
    FleetSpec,
    PlacementPolicy,
    TierSpec,
)

GIB = 1 << 30
MIB = 1 << 20
DAY = timedelta(days=1)
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
TINY = BaseShape("LlamaForCausalLM", 128, 256, 2, 4, 2, 32, 512, 512, 2 * MIB)
LLAMA_8B = BaseShape("LlamaForCausalLM", 4096, 14336, 32, 32, 8, 128, 128256, 8192, 16_060_522_496)
STANDARD = RolloutPolicy("standard", (10, 50, 100), DAY, 7 * DAY, ())


def base(
    name: str = "tiny",
    *,
    kv_cache_bytes: int | None = 64 * MIB,
    slots: int | None = None,
    max_lora_rank: int | None = None,
    shape: BaseShape | None = TINY,
    max_model_len: int | None = 512,
    tensor_parallel: int | None = None,
) -> BaseSpec:
    return BaseSpec(
        name, f"models/base/{name}", "bfloat16", max_model_len, kv_cache_bytes, 0, slots,
        max_lora_rank, (), shape, tensor_parallel,
    )  # fmt: skip


def device(
    name: str = "cpu0",
    *,
    kind: str = "cpu",
    memory: int = 8 * GIB,
    price: float = 0.0,
    port: int = 8100,
    state: DeviceState = "active",
) -> DeviceSpec:
    return DeviceSpec(name, kind, memory, price, port, state)


def host(
    name: str = "laptop", *devices: DeviceSpec, reserved_for: tuple[str, ...] = ()
) -> HostSpec:
    return HostSpec(name, "fake", devices or (device(),), reserved_for=reserved_for)


def attached(name: str, *servers: AttachedServerSpec) -> HostSpec:
    return HostSpec(name, "attach", (), servers)


def adapter(
    name: str,
    *,
    replicas: int = 1,
    pin: str | None = None,
    rollout: str = "standard",
    smoke: tuple[str, ...] = ("hello",),
    demand: DemandSpec | None = None,
    **fields: object,
) -> AdapterSpec:
    """Declare an adapter; `fields` are those of `AdapterSpec` that have a default."""
    made = AdapterSpec(
        AdapterName.parse(name), rollout, demand, "short_generation", replicas, pin, None, smoke
    )
    return replace(made, **fields)  # type: ignore[arg-type]


def facts(name: str, rank: int = 8) -> AdapterFacts:
    return AdapterFacts(digest_of(name), rank, 65_536, ("q_proj", "v_proj"))


def digest_of(name: str) -> str:
    return name.encode().hex().ljust(64, "0")[:64]


def fleet(
    *adapters: AdapterSpec,
    bases: Iterable[BaseSpec] = (),
    hosts: Iterable[HostSpec] = (),
    rollouts: Iterable[RolloutPolicy] = (STANDARD,),
    gates: Iterable[GateSpec] = (),
    known: Iterable[str] = (),
    ranks: Mapping[str, int] | None = None,
    keys: Mapping[str, tuple[ClientKey, ...]] | None = None,
    renames: Mapping[str, str] | None = None,
    policy: PlacementPolicy | None = None,
) -> FleetSpec:
    """Declare a fleet; `known` are versions in the lock besides the declared ones."""
    ranks, keys = ranks or {}, keys or {}
    names = sorted({*(str(each.name) for each in adapters), *known})
    clients = sorted({*(each.name.client for each in adapters), *keys})
    return FleetSpec(
        name="test",
        clients={each: ClientSpec(each, "standard", None, keys.get(each, ())) for each in clients},
        tiers={"standard": TierSpec("standard", 1, None)},
        bases={each.name: each for each in bases or (base(),)},
        hosts={each.name: each for each in hosts or (host(),)},
        adapters={each.alias: each for each in adapters},
        rollouts={each.name: each for each in rollouts},
        gates={each.name: each for each in gates},
        gateways={},
        versions={each: facts(each, ranks.get(each, 8)) for each in names},
        origins={
            f"clients.{each.name.client}.adapters.{each.name.task}.version": (
                Position(f"clients/{each.name.client}.yaml", 7, 16)
            )
            for each in adapters
        },
        renames=renames or {},
        policy=policy or PlacementPolicy(),
    )


def state(*resources: Resource, **fields: object) -> State:
    found: dict[Address, Resource] = {each.address: each for each in resources}
    made = State(resources=dict(sorted(found.items())))
    return replace(made, **fields)  # type: ignore[arg-type]


def history(
    *,
    owned: Iterable[str] = (),
    stages: Iterable[tuple[str, int, datetime]] = (),
    holds: Iterable[Block] = (),
    cutovers: Mapping[str, datetime] | None = None,
) -> History:
    held: dict[str, dict[str, Block]] = {}
    for hold in holds:
        held.setdefault(AdapterName.parse(hold.adapter).alias, {})[hold.adapter] = hold
    return History(
        stages={
            AdapterName.parse(name).alias: RolloutStage(name, percent, entered)
            for name, percent, entered in stages
        },
        holds=held,
        cutovers=cutovers or {},
        answered_all=frozenset(cutovers or {}),
        owned=frozenset(owned),
    )


def route(alias: str, *shares: tuple[str, int, str], salt: str = "salt") -> Route:
    """Build a route of (full name, percent, servers separated by blanks)."""
    return Route(alias, tuple(Share(a, p, tuple(s.split())) for a, p, s in shares), salt)


def loaded(name: str, server: str) -> LoadedAdapter:
    return LoadedAdapter(name, server, digest_of(name), f"/store/{digest_of(name)}")
