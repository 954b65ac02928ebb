"""Timing: how long each kind of step usually takes, when it has failed, and what clocks may do."""

from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Final

SKEW: Final = timedelta(minutes=1)
"""How far the clocks of two machines may differ."""

DRAIN_S = 30
"""How long requests in flight may take before their version is unloaded, in seconds."""

TIMES: Mapping[str, tuple[float, int]] = MappingProxyType(
    {
        "start": (60.0, 900),
        "stop": (10.0, 120),
        "load": (2.0, 120),
        "smoke": (2.0, 120),
        "set": (0.5, 30),
        "divert": (0.5, 30),
        "delete": (0.5, 30),
        "drain": (5.0, DRAIN_S + 15),
        "unload": (0.5, 30),
    }
)
"""By verb: usual seconds, and the seconds after which the step has failed.

Guesses, rounded up from a tiny model on a CPU and published loads of rank 32 on one GPU. Smoke
tests: per input.
"""
