"""Declares the base class of every map of the YAML files, and literals of several sections."""

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A map with known keys; keys that begin with `x-` are left to the reader."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


Latency = Literal["classification", "short_generation", "long_generation"]
"""Latency class of an adapter."""
Stickiness = Literal["session", "user", "request", "key"]
"""How `fleet.traffic.Sticky` is written."""
