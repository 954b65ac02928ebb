"""What is calibrated: a running server, with the facts that must be known beforehand."""

from dataclasses import dataclass

from fleet.hardware import BaseSpec, DeviceSpec


@dataclass(frozen=True, slots=True)
class CalibrationTarget:
    """A running server of the fleet."""

    server: str
    url: str
    base: BaseSpec
    device: DeviceSpec | None
    """One of its devices; None on an attached server."""
    kind: str
    """Kind of its devices, such as `h100_80g`."""
    tensor_parallel: int
    max_loras: int
    max_lora_rank: int
    memory_share: float | None = None
    """Part of each device's memory that it was given; None: vLLM's own default."""

    @property
    def usable_slots(self) -> int:
        """How many adapters may run at a time without waiting for one another.

        vLLM's CPU build computes requests to the base with the last slot, so that stays empty.
        """
        return self.max_loras - (1 if self.kind.startswith("cpu") else 0)
