"""Defines the answers of an attached server about itself."""

from dataclasses import dataclass


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
