"""Describes hosts, devices and their known kinds, attached servers, bases, measured profiles.

Known kinds have the peak figures of data sheets, and memory as drivers report it.

Sources, by letter:
    A  NVIDIA, "Ampere GA102 whitepaper": FP16 with FP32 accumulate, dense.
    B  NVIDIA, "Ada GPU architecture" whitepaper: FP16 with FP32 accumulate, dense.
    C  NVIDIA, "RTX Blackwell GPU architecture" whitepaper: FP16 with FP32 accumulate, dense.
    D  NVIDIA's data sheet of the card; figures "with sparsity" are halved. A100 80 GB: the PCIe
       card, 1,935 GB/s (SXM has 2,039). H100 80 GB: SXM5. HGX B200 and B300: per GPU.
    E  Amazon EC2, accelerators of G5 instances.
    F  AMD's data sheet: dense bfloat16.
    G  A guess: two desktop cores with dual-channel DDR4, at half of its peak.

Reported memory is the least of "total capacity" in out-of-memory messages of PyTorch that users
published, which is what vLLM takes its share of. Part of a GDDR card holds error correction.
A10: rounded down by the publisher.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from fleet.names import forwarded_address
from fleet.policies import Billing


@dataclass(frozen=True, slots=True)
class BaseShape:
    """Dimensions of a base, as in its config.json (Hugging Face field names)."""

    architecture: str
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    max_position_embeddings: int
    weight_bytes: int
    """Sum of the sizes of all tensors in the safetensors files."""
    experts: int = 0
    """Experts that a router of a layer chooses among; 0: no mixture of experts."""
    expert_size: int = 0
    """Inner size of an expert."""
    sparse_layers: int = 0
    """Layers with experts."""
    active_parameters: int = 0
    """Parameters that a token of a mixture is multiplied with; 0: those of the dense layers."""
    latent_width: int = 0
    """Values of a token and layer in the cache of MLA (DeepSeek); 0: keys and values of heads."""


@dataclass(frozen=True, slots=True)
class BaseSpec:
    """A base model."""

    name: str
    model: str
    dtype: str
    max_model_len: int | None
    kv_cache_bytes: int | None
    min_kv_tokens: int
    slots: int | None
    """Declared `max_loras`; None: the planner chooses."""
    max_lora_rank: int | None
    extra: tuple[tuple[str, str], ...]
    shape: BaseShape | None
    """None when neither the library nor the lock holds its config.json."""
    tensor_parallel: int | None = None
    """Devices per server; None: the fewest that hold the base, or that keep a promise."""
    max_in_flight: int | None = None
    reserves: tuple[tuple[str, int, str, int], ...] = ()
    """Kind of device, devices per server, version of vLLM, and the measured reserve: bytes per
    device that are neither weights nor slots nor KV cache."""
    known_as: tuple[str, ...] = ()
    """Further names under which adapters name the base."""
    kv_bytes_per_token: int | None = None
    """Declared KV cache of a token on a device; None: computed."""
    active_parameters: int | None = None
    """Declared parameters that a token is multiplied with; None: computed."""

    def reserve(self, kind: str, devices: int, vllm: str = "") -> tuple[int, str] | None:
        """Return the largest measured reserve of such servers, and its version of vLLM.

        Of the same minor release, where `vllm` is given. None: never measured.
        """
        found = (
            (reserve, measured)
            for *server, measured, reserve in self.reserves
            if server == [kind, devices]
            and (not vllm or vllm.split(".")[:2] == measured.split(".")[:2])
        )
        return max(found, default=None)


GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Speed:
    """The constants of the throughput law of a base on a kind of device.

    A step that decodes a token for `batch` requests takes `step_s + request_s * batch`
    where all ask the base, and with `active` different adapters in the batch
    `(lora_factor * step_s + lora_request_s * batch) * (1 + spread * (active - 1))`.
    """

    step_s: float
    """Seconds of an empty step: reading all weights once, launching kernels."""
    request_s: float
    """Seconds that a request of the batch adds: reading its KV cache."""
    lora_factor: float
    """Factor of any LoRA at all on an empty step, 1 or more."""
    spread: float
    """Increase of the step by a further adapter in the batch, as a part of the step."""
    prompt_weight: float
    """Cost of a prompt token in decoded tokens."""
    lora_request_s: float | None = None
    """Seconds that a request adds where adapters are asked; None: `lora_factor * request_s`.

    On a processor LoRA costs by the request, on a card mostly by the step.
    """

    @property
    def adapted(self) -> tuple[float, float]:
        """Seconds of an empty step, and those that a request adds, with a single active adapter."""
        request = self.lora_request_s
        if request is None:
            request = self.lora_factor * self.request_s
        return self.lora_factor * self.step_s, request


@dataclass(frozen=True, slots=True)
class Profile:
    """A measurement of a server, as `fleetctl calibrate` writes profiles."""

    base: str
    kind: str
    tensor_parallel: int
    max_lora_rank: int
    vllm: str
    dtype: str
    speed: Speed
    residual: float
    """Largest relative error of the fit over its points."""
    reserve_bytes: int | None = None
    """Memory that is neither weights nor slots nor KV cache, per device."""
    weight_bytes: int | None = None
    """Weights of the base that was measured; None: the profile is older than this field."""


def is_cpu(kind: str) -> bool:
    """Say whether a kind is a processor and not a card, such as `cpu` or `cpu_arm`."""
    return kind.startswith("cpu")


@dataclass(frozen=True, slots=True)
class Basis:
    """Quality of a figure about servers; as text such as `uncalibrated` or `unknown`."""

    source: Literal["calibrated", "uncalibrated", "unknown"]
    note: str = ""
    """Error of a measured figure, such as `residual 3.1 %`, or why no measurement counts."""

    @property
    def is_measured(self) -> bool:
        """Whether the figure rests on a measurement."""
        return self.source == "calibrated"

    def __str__(self) -> str:
        if not self.note:
            return self.source
        return f"{self.source}, {self.note}" if self.is_measured else f"{self.source} ({self.note})"


NO_BASIS: Final = Basis("unknown")
"""Basis of a figure that cannot be told."""

PORT_STRIDE: Final = 100
"""Distance of the ports of servers that share a device: the first has the device's own port."""

SYSTEM: Final = "systemd-system"
"""Supervisor of servers that are instances of a template that root owns."""
DeviceState = Literal["active", "cordoned", "draining"]
"""`cordoned`: takes no further adapters. `draining`: its adapters leave."""


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    """A GPU (or the CPU) of a host."""

    name: str
    kind: str
    """Kind, such as `h100_80g` or `cpu`."""
    memory_bytes: int
    price_per_hour: float
    port: int
    """Port of a server started on this device."""
    state: DeviceState = "active"
    vllm: str = ""
    """Version of the device's engine, declared or observed; empty: unknown."""
    bandwidth: float | None = None
    """Declared bytes per second between the device and its memory; None: those of the kind."""
    flops: float | None = None
    """Declared 16 bit operations per second; None: those of the kind."""


@dataclass(frozen=True, slots=True)
class ServerTls:
    """The PEM files for TLS to an attached server, by absolute paths; empty: the usual."""

    ca: str = ""  # who signed the server's certificate; else: whom this machine knows
    certificate: str = ""  # shown to the server, with the key unless `key` is given; else: none
    key: str = ""
    name: str = ""  # name that the server's certificate must have; else: the host of the URL


@dataclass(frozen=True, slots=True)
class AttachedServerSpec:
    """A server that is not started by fleetctl."""

    name: str
    url: str
    base: str
    max_loras: int
    max_lora_rank: int
    price_per_hour: float
    state: DeviceState = "active"
    vllm: str = ""
    api_key: str = ""  # reference of the key that the server asks for; empty: none
    tls: ServerTls | None = None


@dataclass(frozen=True, slots=True)
class HostSpec:
    """A machine with devices, or a group of attached servers."""

    name: str
    engine: str
    """Name of a shipped engine, or of an engine in `package`."""
    devices: tuple[DeviceSpec, ...] = ()
    attached: tuple[AttachedServerSpec, ...] = ()
    python: str = ""
    """Path of the interpreter that has vLLM: engine `local`, relative to the project; engine `ssh`,
    on the host, relative to the user's home."""
    paths: tuple[tuple[str, str], ...] = ()
    """Prefix here to prefix on the server's host, longest first (engine `attach`)."""
    address: str = "127.0.0.1"
    """Address that the servers listen on; engine `ssh`: destination of `ssh`; `ray`: the node."""
    reserved_for: tuple[str, ...] = ()
    """Tiers and clients to whose adapters the host is reserved; empty: all."""
    memory_bytes: int | None = None
    """Main memory for the listed adapters of its servers; None: not limited."""
    restart_after_s: float = 120.0
    """Seconds without a sign of life after which `reconcile` replaces a server."""
    billing: Billing = "always"
    store: str = ""
    """Folder of adapters and bases on the host (engine `ssh`), relative to the user's home; engine
    `ray`: absolute, shared with this machine."""
    supervisor: str = ""
    """Keeper of the servers: `systemd`, `systemd-system`; empty: the usual one of the engine."""
    image: str = ""
    """Image, by digest, that servers of a host of engine `ssh` run from; empty: from `python`."""
    vllm: str = ""
    """Declared version of vLLM; empty: whichever there is."""
    cluster: str = ""
    """URL of the head of a Ray cluster (engine `ray`)."""
    token: str = ""
    """Reference of the cluster's token; empty: none is asked for."""
    fetch: bool = False
    """Whether the host fetches versions from their sources itself (engines `ssh` and `ray`)."""
    package: str = ""
    """Package of an extension that has the engine; empty: fleetctl ships the engine."""

    @property
    def has_system_units(self) -> bool:
        """Whether root has allowed the servers, instances of its template; else units of a user."""
        return self.supervisor == SYSTEM

    left: tuple[DeviceSpec, ...] = ()
    """Devices that are no longer declared and may have servers, as they were last declared."""

    @property
    def store_there(self) -> str:
        """Folder of adapters and bases on a host of engine `ssh`, declared or usual."""
        return self.store or ".local/share/fleetctl/store"

    @property
    def python_there(self) -> str:
        """Interpreter that has vLLM on a host of engine `ssh`, declared or usual."""
        return self.python or ".local/share/fleetctl/vllm/bin/python"

    @property
    def machine(self) -> str | None:
        """Machine that fleetctl starts vLLM on, to compare hosts by; None: fleetctl does not."""
        return self.reached_at if self.engine in {"local", "ssh", "ray"} else None

    @property
    def listens_on(self) -> str:
        """Address that the host's servers listen on."""
        return "127.0.0.1" if self.engine == "ssh" else self.address

    @property
    def reached_at(self) -> str:
        """Address at which this machine and its gateways reach the host's servers.

        A host of engine `ssh` has a loopback address of its own, drawn from its destination, whose
        ports are forwarded to the same ports of the host.
        """
        if self.engine != "ssh":
            return self.address
        return forwarded_address(self.address)

    def drained(self) -> "HostSpec":
        """Return the host with all its devices draining."""
        return replace(self, devices=tuple(replace(d, state="draining") for d in self.devices))


@dataclass(frozen=True, slots=True)
class AttachedFacts:
    """The answers of an attached server about its flags, which others choose."""

    takes_adapters: bool | None = None
    """Whether adapters are loaded at run time; None: not visible."""
    max_loras: int | None = None
    """Slots; None: not told before the first request to an adapter."""
    root: str = ""
    """Path or name of the base, from the command line of the server."""
    max_model_len: int | None = None


@dataclass(frozen=True, slots=True)
class Sheet:
    """The maker's data sheet of a kind of device: peak figures, never reached."""

    bandwidth: float
    """Bytes per second between the device and its memory."""
    flops: float
    """Dense 16 bit multiply-and-adds per second, counted as two operations."""
    memory_bytes: int
    """Memory that a driver reports; 0: that of the machine."""


_ROWS: Final = """
kind           GB/s TFLOPS reported GiB source
rtx3090_24g     936     71        23.56      A
rtx4090_24g    1008  165.2        23.52      B
rtx5090_32g    1792  209.5        31.36      C
rtxpro_6000_96g 1792  503.8       94.96      D
a10_24g         600    125        22.00      D
a10g_24g        600     70        22.03      E
l4_24g          300    121        22.03      D
l40s_48g        864    362        44.39      D
a100_40g       1555    312        39.38      D
a100_80g       1935    312        79.14      D
h100_80g       3350    989        79.14      D
h100_pcie_80g  2000    756        79.14      D
h100_nvl_94g   3938    835        93.00      D
h200_141g      4800    989       139.72      D
b200_180g      7700   2250       178.35      D
b300_288g      8000   2250       267.69      D
mi300x_192g    5300   1307       191.69      F
mi325x_256g    6000   1307       255.69      F
mi355x_288g    8000   2516       287.98      F
cpu              20    0.1            0      G
"""


def _sheet(row: str) -> tuple[str, Sheet]:
    kind, bandwidth, flops, memory, _ = row.split()
    return kind, Sheet(float(bandwidth) * 1e9, float(flops) * 1e12, int(float(memory) * GIB))


SHEETS: Mapping[str, Sheet] = dict(map(_sheet, _ROWS.strip().splitlines()[1:]))
"""Data sheets by kind."""


def sheet_of(kind: str) -> Sheet | None:
    """Return the data sheet of a kind of device; None: unknown kind."""
    return SHEETS["cpu"] if is_cpu(kind) else SHEETS.get(kind)


def sheet_of_device(device: DeviceSpec) -> Sheet | None:
    """Return the figures of a device, declared or of its kind; None: one is not known."""
    kind = sheet_of(device.kind)
    bandwidth = device.bandwidth or (kind.bandwidth if kind else None)
    flops = device.flops or (kind.flops if kind else None)
    return Sheet(bandwidth, flops, device.memory_bytes) if bandwidth and flops else None
