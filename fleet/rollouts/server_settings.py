"""Compares the settings of servers: what can change their answers.

Settings are the flags of a server without its sizes, its image, the declared version of vLLM,
and the interpreter where servers are started with another now.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

from fleet.resources import ServerFlags


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """The settings of a server."""

    flags: ServerFlags
    """Without slots, rank and number of devices."""
    vllm: str
    """The declared version, or another that a server with traffic runs; empty: none is declared."""
    python: str = ""
    """Path of the interpreter; empty: the server runs the declared one."""

    @property
    def digest(self) -> str:
        """A text that other settings do not have."""
        return " ".join(filter(None, (self.flags.digest, self.vllm, self.python)))

    def named(self) -> dict[str, Any]:
        """Return the settings by name; declared flags that stand alone are `set`."""
        flags = asdict(self.flags)
        extra = {f"flags.{name}": value or "set" for name, value in flags.pop("extra")}
        return {**flags, **extra, "vllm": self.vllm, "python": self.python}

    def until(self, wants: "ServerSettings") -> tuple[str, ...]:
        """Return the differences from other settings, such as `max_model_len: 512 -> 256`."""
        before, after = self.named(), wants.named()
        pairs = ((name, before.get(name), after.get(name)) for name in {**before, **after})
        return tuple(
            f"{name}: {_shown(was)} -> {_shown(now)}" for name, was, now in pairs if was != now
        )


def _shown(value: object) -> str:
    return "default" if value is None else str(value)


def sizeless(flags: ServerFlags) -> ServerFlags:
    """Return flags without slots, rank, devices and share of memory: these change no answer."""
    return replace(
        flags, max_loras=1, max_lora_rank=1, max_cpu_loras=1, tensor_parallel=1, memory_share=None
    )


def is_release(seen: str, declared: str) -> bool:
    """Say whether a version such as `0.33.1+cpu` is the declared version, such as `0.33`."""
    return f"{seen.partition('+')[0]}.".startswith(f"{declared.partition('+')[0]}.")
