"""Engines: what fleetctl needs from whatever runs the servers. One file per engine."""

from runtime.engines.protocol import Answer, Engine, Observer
from runtime.engines.registry import ENGINES, make_engine, read_only

__all__ = ["ENGINES", "Answer", "Engine", "Observer", "make_engine", "read_only"]
