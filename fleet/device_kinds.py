"""Lists the known kinds of devices: peak figures of data sheets, and memory as drivers report it.

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
from dataclasses import dataclass
from typing import Final

from fleet.hardware import GIB, DeviceSpec, is_cpu


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
