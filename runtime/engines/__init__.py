"""Engines: what fleetctl needs from whatever runs the servers. One file per engine.

What this gives is imported when it is asked for: a gateway needs to know its processes, and no
engine, whose libraries would take a fifth of its memory.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runtime.engines.protocol import Answer, Engine, Observer
    from runtime.engines.registry import ENGINES, make_engine, read_only

__all__ = ["ENGINES", "Answer", "Engine", "Observer", "make_engine", "read_only"]

_PROTOCOL = frozenset({"Answer", "Engine", "Observer"})


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(name)
    module = "protocol" if name in _PROTOCOL else "registry"
    return getattr(import_module(f"{__name__}.{module}"), name)
