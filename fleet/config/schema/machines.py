"""Declares what adapters are served with: bases, hosts with their devices, gateways."""

from typing import Annotated, Literal

from pydantic import Field

from fleet.config.scalars.quantities import Amount, Count, Port, Size, Width
from fleet.config.scalars.texts import FlagValue, Id, Listen, SecretRef, Url, Word
from fleet.config.schema.section import Section
from fleet.hardware import DeviceState
from fleet.spec import GatewayKind

Release = Annotated[str, Field(pattern=r"^[0-9]+\.[0-9]+(\.[0-9A-Za-z.+-]+)?$")]
Flag = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$")]


class Base(Section):
    """A base model; a server has one of them in memory and serves many adapters on it."""

    model: Word
    """Path of its weights as its servers see it; relative paths start at the project."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Type of the weights in memory."""
    max_model_len: Count | None = None
    """Longest prompt plus answer. Unit: tokens. Default: that of the model."""
    kv_cache: Size | None = None
    """Memory for the KV cache, such as `64MiB`. Default: what the device has left."""
    min_kv_tokens: Count = 4096
    """Least size of the KV cache that a placement must leave. Unit: tokens."""
    max_loras: Count | None = None
    """LoRA slots of each server. Default: chosen from the adapters placed on it."""
    max_lora_rank: Literal[1, 8, 16, 32, 64, 128, 256, 320, 512] | None = None
    """Largest adapter rank of each server. Default: chosen from the adapters."""
    tensor_parallel: Width | None = None
    """Devices that each server spreads the base over. Default: the fewest that hold it."""
    max_in_flight: Count | None = None
    """Requests that a gateway keeps at work on each server at a time.

    More than that wait in the gateway, where clients take turns: by the `weight` of their tier,
    and short answers before long ones. Default: as many as the server says it runs (`/metrics`
    of vLLM) and a quarter more, at least four; 256 where it does not say. A number so large that it
    is never reached leaves it to the servers' own queue, first come, first served.
    """
    flags: dict[Flag, FlagValue] = {}
    """Further vLLM flags without dashes, such as `enable-prefix-caching: true`."""


class Device(Section):
    """A GPU, or the CPU, of a host."""

    kind: Word
    """Profile, such as `h100_80g`, `rtx4090_24g` or `cpu`."""
    memory: Size
    """Memory that a server may use, such as `80GiB`."""
    price_per_hour: Amount = 0.0
    """Cost while in use, in any one currency."""
    port: Port | None = None
    """Port of its server. Default: the host's port plus the device's place among their names.

    Names are in the order in which people count, `gpu2` before `gpu10`.
    """
    state: DeviceState = "active"
    """Whether it takes servers and adapters; the host's `state` holds where it is stricter."""


class AttachedServer(Section):
    """A vLLM server that someone else starts and stops."""

    url: Url
    """Where it answers, such as `http://10.0.0.5:8000`."""
    base: Id
    """The base it serves."""
    max_loras: Count
    """LoRA slots it was started with."""
    max_lora_rank: Count
    """Largest adapter rank it was started with."""
    price_per_hour: Amount = 0.0
    """Cost, in the currency of the other prices."""
    state: DeviceState = "active"
    """Whether it takes adapters; the host's `state` holds where it is stricter."""


class Host(Section):
    """A machine whose devices run servers, or a group of servers run by someone else."""

    engine: Literal["local", "attach", "fake"] = "local"
    """`local`: fleetctl starts vLLM. `attach`: someone else does. `fake`: answers made up."""
    python: Word | None = None
    """Interpreter that has vLLM (engine `local`); relative to the project."""
    address: Word = "127.0.0.1"
    """Where its servers listen."""
    port: Port = 8100
    """Port of the first device's server; each further device, by name, counts up."""
    devices: dict[Id, Device] = {}
    """Devices by name; the order in which they are listed means nothing."""
    servers: dict[Id, AttachedServer] = {}
    """Servers by name (engine `attach`)."""
    paths: dict[Word, Word] = {}
    """Folders here to the same folders as the servers see them (engine `attach`)."""
    state: DeviceState = "active"
    """`active`; `cordoned`: takes nothing new; `draining`: what is there leaves."""
    reserved_for: tuple[Id, ...] = ()
    """Tiers and clients whose adapters alone may be placed here. Default: everyone's."""
    memory: Size | None = None
    """Main memory that the adapters its servers list may take together, such as `256GiB`.

    Each server keeps up to `max_cpu_loras` adapters there, once for each of its devices. Default:
    not limited.
    """
    vllm: Release | None = None
    """Version of vLLM that its servers run, such as `0.32.0`; what slots take depends on it.

    Default: what a running server of the host tells.
    """


class Gateway(Section):
    """A process that clients talk to."""

    listen: Listen
    """Host and port for clients, such as `127.0.0.1:8080`."""
    admin: Word | None = None
    """Socket path or URL of its admin side. Default: a socket in the state folder."""
    secret: SecretRef | None = None
    """The operator's secret: opens the admin side over TCP, and calls any alias for evaluation.

    Default: one that fleetctl makes and keeps in the state folder.
    """
    kind: GatewayKind = "fleetctl"
    """`fleetctl`: fleetctl's own process. `envoy`: an Envoy on this machine, which somebody else
    starts, and which follows the files that `apply` and `rollback` write for it."""
