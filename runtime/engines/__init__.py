"""Engines: what fleetctl needs from whatever runs the servers. One file per engine.

What is named here is imported when it is first used: a gateway needs a part of this package
and none of the engines' libraries.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runtime.engines.protocol import Completion, Engine, Observer
    from runtime.engines.registry import ENGINES, make_engine, read_only

__all__ = ["ENGINES", "Completion", "Engine", "Observer", "make_engine", "read_only"]


def __getattr__(name: str) -> Any:
    """Import what is named in `__all__`."""
    if name not in __all__:
        raise AttributeError(name)
    from runtime.engines import protocol, registry  # noqa: PLC0415 (6 MB, and few need them)

    return getattr(registry, name) if hasattr(registry, name) else getattr(protocol, name)
