"""Describes what serves: hosts, devices, attached servers, bases, known GPUs, measured profiles."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal


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


@dataclass(frozen=True, slots=True)
class BaseSpec:
    """A base model."""

    name: str
    model: str
    """Path as its servers see it."""
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
    """Devices of each server; None: the fewest that hold it."""
    max_in_flight: int | None = None
    """Requests that a gateway keeps at work on each server."""
    reserves: tuple[tuple[str, int, str, int], ...] = ()
    """Kind of device, devices per server, version of vLLM, and bytes per device that were
    measured to go to what is neither weights nor slots nor KV cache."""

    def reserve(self, kind: str, devices: int, vllm: str = "") -> tuple[int, str] | None:
        """Return the largest reserve that was measured of such servers, and with which vLLM.

        Of the same minor release, where that is known. None: never measured.
        """
        found = (
            (each, measured)
            for *of, measured, each in self.reserves
            if of == [kind, devices] and (not vllm or _minor(vllm) == _minor(measured))
        )
        return max(found, default=None)


def _minor(vllm: str) -> list[str]:
    return vllm.split(".")[:2]


GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Speed:
    """The constants of the throughput law of one base on one kind of device.

    A step that decodes one token for each of `batch` requests takes `step_s + request_s * batch`
    where all ask the base, and with `active` different adapters among them
    `(lora_factor * step_s + lora_request_s * batch) * (1 + spread * (active - 1))`.
    """

    step_s: float
    """Seconds of an empty step: reading all weights once, launching kernels."""
    request_s: float
    """Seconds that each request of the batch adds: reading its KV cache."""
    lora_factor: float
    """What any LoRA at all multiplies an empty step by, 1 or more."""
    spread: float
    """What each further adapter of the batch adds, as a part of the step."""
    prompt_weight: float
    """Cost of a prompt token in decoded tokens."""
    lora_request_s: float | None = None
    """Seconds that each request adds once adapters are asked; None: `lora_factor * request_s`.

    On a processor LoRA costs by the request, on a card mostly by the step.
    """

    @property
    def adapted(self) -> tuple[float, float]:
        """Seconds of an empty step, and those that each request adds, with one adapter active."""
        request = self.lora_request_s
        return (
            self.lora_factor * self.step_s,
            self.lora_factor * self.request_s if request is None else request,
        )


@dataclass(frozen=True, slots=True)
class Profile:
    """A measurement of one server, as `fleetctl calibrate` writes it."""

    base: str
    kind: str
    """The device's kind, such as `h100_80g`."""
    tensor_parallel: int
    max_lora_rank: int
    vllm: str
    """The engine's version, such as `0.32.0`."""
    dtype: str
    speed: Speed
    residual: float
    """Largest relative error of the fit over its points."""
    reserve_bytes: int | None = None
    """Memory that is neither weights nor slots nor KV cache, per device."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """What the maker says of one kind of device. Peak figures; nobody reaches them."""

    bandwidth: float
    """Bytes per second between the device and its memory."""
    flops: float
    """Dense 16 bit multiply-and-adds per second, counted as two operations."""
    memory_bytes: int
    """Memory by name; what the driver reports is up to 1 % less."""


SHEETS: Mapping[str, Sheet] = MappingProxyType(
    {
        "rtx3090_24g": Sheet(936e9, 71e12, 24 * GIB),
        "rtx4090_24g": Sheet(1008e9, 165.2e12, 24 * GIB),
        "l4_24g": Sheet(300e9, 121e12, 24 * GIB),
        "a10_24g": Sheet(600e9, 125e12, 24 * GIB),
        "a10g_24g": Sheet(600e9, 70e12, 24 * GIB),
        "l40s_48g": Sheet(864e9, 362e12, 48 * GIB),
        "a100_40g": Sheet(1555e9, 312e12, 40 * GIB),
        "a100_80g": Sheet(1935e9, 312e12, 80 * GIB),
        "h100_80g": Sheet(3350e9, 989e12, 80 * GIB),
        "h100_pcie_80g": Sheet(2000e9, 756e12, 80 * GIB),
        "h200_141g": Sheet(4800e9, 989e12, 141_000_000_000),
        "b200_180g": Sheet(7700e9, 2250e12, 180_000_000_000),
        "mi300x_192g": Sheet(5300e9, 1307e12, 192 * GIB),
        "cpu": Sheet(20e9, 0.1e12, 0),
    }
)
"""The kinds of device that fleetctl knows; others are planned without a limit of throughput.

Source:
    NVIDIA: Ampere GA102 and Ada whitepapers (3090, 4090: FP16 with FP32 accumulate, dense); data
    sheets of L4, A10, L40S (half of the figures "with sparsity"), A100 (the PCIe card's 1,935
    GB/s; SXM has 2,039), H100 (SXM5 and PCIe), H200, HGX B200 (per GPU; 7.7 to 8 TB/s by board).
    AWS for the A10G. AMD: data sheet of the MI300X (dense bfloat16).
    `cpu` stands for two desktop cores with dual-channel DDR4, at half of its peak; a guess.
"""


def sheet_of(kind: str) -> Sheet | None:
    """Return the data sheet of a kind of device; None where it is not known."""
    return SHEETS["cpu"] if is_cpu(kind) else SHEETS.get(kind)


def is_cpu(kind: str) -> bool:
    """Say whether a kind is a processor and not a card, such as `cpu` or `cpu_arm`."""
    return kind.startswith("cpu")


DeviceState = Literal["active", "cordoned", "draining"]
"""`cordoned`: takes nothing new. `draining`: what is there leaves."""


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    """One GPU (or the CPU) of a host."""

    name: str
    kind: str
    """Profile, such as `h100_80g` or `cpu`."""
    memory_bytes: int
    price_per_hour: float
    port: int
    """Port of a server started on this device."""
    state: DeviceState = "active"
    vllm: str = ""
    """Version of the engine that runs on it, declared or observed; empty: not known."""


@dataclass(frozen=True, slots=True)
class AttachedServerSpec:
    """A server that someone else runs."""

    name: str
    url: str
    base: str
    max_loras: int
    max_lora_rank: int
    price_per_hour: float
    state: DeviceState = "active"
    vllm: str = ""
    """Version of its engine; empty: not known."""


@dataclass(frozen=True, slots=True)
class HostSpec:
    """A machine with devices, or a group of servers run by someone else."""

    name: str
    engine: Literal["local", "attach", "fake"]
    devices: tuple[DeviceSpec, ...] = ()
    attached: tuple[AttachedServerSpec, ...] = ()
    python: str = ""
    """Interpreter that has vLLM, for engine `local`; relative to the project."""
    paths: tuple[tuple[str, str], ...] = ()
    """Prefix here to prefix on the server's host, longest first (engine `attach`)."""
    address: str = "127.0.0.1"
    reserved_for: tuple[str, ...] = ()
    """Tiers and clients whose adapters alone may be placed here; empty: all."""
    memory_bytes: int | None = None
    """Main memory for the adapters that its servers list; None: not limited."""
