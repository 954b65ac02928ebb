"""What is calibrated: one server, with all that must be known of it beforehand."""

from dataclasses import dataclass

from fleet.declared import Base, Device


@dataclass(frozen=True, slots=True)
class Subject:
    """A running server of the fleet."""

    server: str
    url: str
    base: Base
    device: Device | None
    """One of its devices; None on a server that somebody else runs."""
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
