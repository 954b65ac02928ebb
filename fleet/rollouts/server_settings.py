"""Compares the settings of servers: what can change their answers.

Settings are the flags of a server without slots and rank, its image, the declared version of vLLM,
and the interpreter where servers are started with another now.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

from fleet.resources import ServerFlags


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """The settings of a server."""

    flags: ServerFlags
    """Without slots and rank."""
    vllm: str
    """The declared version, or another that a server with traffic runs; empty: none is declared."""
    python: str = ""
    """Path of the interpreter; empty: the server runs the declared one."""

    @property
    def digest(self) -> str:
        """A text that other settings do not have."""
        return " ".join(filter(None, (self.flags.digest, self.vllm, self.python)))

    def named(self) -> dict[str, Any]:
        """Return the settings by name."""
        return {**asdict(self.flags), "vllm": self.vllm, "python": self.python}

    def until(self, wants: "ServerSettings") -> tuple[str, ...]:
        """Return the differences from other settings, such as `max_model_len: 512 -> 256`."""
        before, after = self.named(), wants.named()
        names = [name for name in before if before[name] != after[name]]
        return tuple(f"{name}: {before[name]} -> {after[name]}" for name in names)


def sizeless(flags: ServerFlags) -> ServerFlags:
    """Return flags without slots, rank and share of memory: these change no answer."""
    return replace(flags, max_loras=1, max_lora_rank=1, max_cpu_loras=1, memory_share=None)


def is_release(seen: str, declared: str) -> bool:
    """Say whether a version such as `0.33.1+cpu` is the declared version, such as `0.33`."""
    return f"{seen.partition('+')[0]}.".startswith(f"{declared.partition('+')[0]}.")
