"""Twenty-two fleets that do not fit, each for one planted cause."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from fleet.hardware import AttachedServerSpec, DeviceSpec, HostSpec
from fleet.placement.model.causes import Limit
from fleet.resources import Server, State
from fleet.spec import AdapterSpec, DemandSpec, FleetSpec
from tests.fleet.placement.placements import LLAMA, PROFILE, card
from tests.fleet.planning.builders import GIB, adapter, attached, base, device, fleet, host, state

DAY = DemandSpec(peak_rpm=500, hours=(9, 17), prompt_tokens=500, output_tokens=200)
"""Four ninths of what one server may carry, so that two fit together and three do not."""
ALWAYS = adapter("cedar-faq-llama-v1.0.0", demand=replace(DAY, hours=(0, 24)))
TINY = base("tiny")
MINI = replace(LLAMA, name="mini")


@dataclass(frozen=True)
class Planted:
    """One fleet, its cause, and a way out that must be among those found."""

    limit: Limit
    fleet: FleetSpec
    fix: str
    """Text of the remedy."""
    live: State = field(default_factory=state)
    hour: int | None = None


def made(
    *adapters: AdapterSpec,
    hosts: Iterable[HostSpec],
    bases: Iterable[object] = (LLAMA, MINI, TINY),
    ranks: Mapping[str, int] | None = None,
) -> FleetSpec:
    of = fleet(*adapters, hosts=hosts, bases=bases, ranks=ranks)  # type: ignore[arg-type]
    return replace(of, profiles=(PROFILE, replace(PROFILE, base="mini")))


def several(count: int, of: str = "llama", **fields: object) -> list[AdapterSpec]:
    return [adapter(f"acme-t{index}-{of}-v1.0.0", **fields) for index in range(count)]  # type: ignore[arg-type]


def only(*cards: DeviceSpec, name: str = "a") -> HostSpec:
    return host(name, *(cards or (card("gpu0"),)))


ACME, BIRCH = (f"{client}-faq-llama-v1.0.0" for client in ("acme", "birch"))
OTHER = "dune-faq-mini-v1.0.0"
THEIRS = AttachedServerSpec("big", "http://x", "llama", 1, 16, 1.0)

FLEETS: dict[str, Planted] = {
    "LoRA slots": Planted(
        Limit.SLOTS, made(*several(140, "tiny"), hosts=[host("a", device())]), "1 more cpu"
    ),
    "rank": Planted(
        Limit.RANK,
        made(adapter(ACME), hosts=[only()], bases=[replace(LLAMA, max_lora_rank=16)],
             ranks={ACME: 64}),
        "max_lora_rank 64 on base llama",
    ),
    "main memory of a host, for one server": Planted(
        Limit.HOST_MEMORY,
        made(adapter(ACME), hosts=[replace(only(), memory_bytes=400 << 10)]),
        "memory 1MiB on host a",
    ),
    "main memory of a host, for a server beside another": Planted(
        Limit.HOST_MEMORY,
        made(adapter(ACME), adapter(OTHER), bases=[LLAMA, replace(MINI, slots=16)],
             hosts=[replace(only(card("gpu0"), card("gpu1", 8001)), memory_bytes=2 << 20)]),
        "max_loras 8 on base mini",
    ),
    "memory of a device": Planted(
        Limit.MEMORY,
        made(adapter(ACME), hosts=[only(device("gpu0", kind="l4_8g", memory=8 * GIB))]),
        "a larger device, such as 1 a10_24g",
    ),
    "KV cache for max_model_len": Planted(
        Limit.KV_CACHE,
        made(adapter(ACME), hosts=[only(device("gpu0", kind="rtx4090_24g", memory=24 * GIB))],
             bases=[replace(LLAMA, max_model_len=131072)]),
        "max_model_len 32768 on base llama",
    ),
    "throughput of one hour, where two clients' peaks collide": Planted(
        Limit.THROUGHPUT,
        made(adapter(ACME, demand=DAY), adapter(BIRCH, demand=replace(DAY, hours=(16, 22))),
             ALWAYS, hosts=[only()]),
        "1 more h100_80g", hour=16,
    ),
    "a batch window that collides with a peak": Planted(
        Limit.THROUGHPUT,
        made(adapter(ACME, demand=DAY),
             adapter(BIRCH, demand=replace(DAY, hours=(20, 23), batch=(14, 16))),
             ALWAYS, hosts=[only()]),
        "batch window of birch-faq at 00-02", hour=14,
    ),
    "replicas over devices": Planted(
        Limit.REPLICAS, made(adapter(ACME, replicas=2), hosts=[only()]), "1 replica of acme-faq"
    ),
    "replicas over hosts": Planted(
        Limit.HOSTS,
        made(adapter(ACME, replicas=2, spread="host"),
             hosts=[only(card("gpu0"), card("gpu1", 8001))]),
        "spread device for acme-faq",
    ),
    "a pin to a full host": Planted(
        Limit.PIN,
        made(adapter(ACME, pin="a"), adapter(OTHER, pin="a"), hosts=[only(), only(name="b")]),
        "no pin for dune-faq",
    ),
    "a pin to what it avoids": Planted(
        Limit.PIN,
        made(adapter(ACME, pin="a", avoid=("a",)), hosts=[only(), only(name="b")]),
        "no pin for acme-faq",
    ),
    "adapters that stay apart": Planted(
        Limit.APART,
        made(adapter(ACME, apart=("birch",)), adapter(BIRCH), hosts=[only()]),
        "no apart for acme-faq",
    ),
    "a tier of its own": Planted(
        Limit.ISOLATION,
        made(adapter(ACME, tier="gold", isolation="tier"), adapter(BIRCH), hosts=[only()]),
        "isolation shared for acme-faq",
    ),
    "a client of its own": Planted(
        Limit.ISOLATION,
        made(adapter(ACME, isolation="client"), adapter(BIRCH, isolation="client"),
             hosts=[only()]),
        "isolation shared for acme-faq, birch-faq",
    ),
    "a reserved host": Planted(
        Limit.RESERVED,
        made(adapter(ACME), hosts=[replace(only(), reserved_for=("gold",))]),
        "host a open to standard",
    ),
    "a cordoned device": Planted(
        Limit.CORDONED,
        made(adapter(ACME), hosts=[only(card("gpu0", state="cordoned"))]),
        "a/gpu0 active again",
    ),
    "a draining device": Planted(
        Limit.DRAINING,
        made(adapter(ACME), hosts=[only(card("gpu0", state="draining"))]),
        "a/gpu0 active again",
    ),
    "tensor parallel over more devices than a host has": Planted(
        Limit.TENSOR_PARALLEL,
        made(adapter(ACME), hosts=[only(), only(name="b")],
             bases=[replace(LLAMA, tensor_parallel=2)]),
        "tensor_parallel 1 on base llama",
    ),
    "max_loras declared too low": Planted(
        Limit.SLOTS,
        made(*several(5), hosts=[only()], bases=[replace(LLAMA, slots=4)]),
        "max_loras 5 on base llama",
    ),
    "too few of the only kind that holds the base": Planted(
        Limit.DEVICES,
        made(adapter(ACME), adapter(OTHER),
             hosts=[only(card("gpu0"), device("gpu1", kind="l4_8g", memory=8 * GIB, port=8001))]),
        "1 more h100_80g",
    ),
    "an attached server that is full": Planted(
        Limit.SLOTS,
        made(adapter(ACME), adapter(BIRCH), hosts=[attached("dc", THEIRS)]),
        "max_loras 2 on server big",
        live=state(Server("big", "llama", "dc", (), 0, None)),
    ),
}  # fmt: skip
