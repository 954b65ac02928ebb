"""What all maps of the declarations have in common, and words that several of them use."""

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A map with known keys; keys that begin with `x-` are left to the reader."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


Latency = Literal["classification", "short_generation", "long_generation"]
Spread = Literal["device", "host"]
Isolation = Literal["shared", "tier", "client"]
Residency = Literal["pinned", "cached"]
Stickiness = Literal["session", "user", "request", "key"]
GatewayKind = Literal["fleetctl", "envoy"]
CompiledFor = Literal["envoy", "litellm"]
State = Literal["active", "cordoned", "draining"]
