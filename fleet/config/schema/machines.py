"""Declares the machinery that serves adapters: bases, hosts with their devices, gateways."""

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field

from fleet.config.scalars.quantities import Amount, Count, Duration, Many, Port, Rate, Size, Width
from fleet.config.scalars.texts import (
    AdminAddress,
    Argument,
    FlagValue,
    Folder,
    HostAddress,
    Id,
    Image,
    Listen,
    PemFile,
    Program,
    SecretRef,
    Url,
    Word,
)
from fleet.config.schema.extensions import EngineName
from fleet.config.schema.section import Section
from fleet.hardware import DeviceState
from fleet.policies import Billing
from fleet.spec import GatewayKind

Release = Annotated[str, Field(pattern=r"^[0-9]+\.[0-9]+(\.[0-9A-Za-z.+-]+)?$")]
ServerName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]*$")]
Flag = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$")]


class Base(Section):
    """A base model; a server has a single base in memory and serves many adapters on the base."""

    formerly: Id | None = None
    """The first name of a renamed base; it stays in versions, servers and the library."""
    model: Argument
    """Path of the weights as the servers see the path; relative paths start at the project."""
    known_as: tuple[Word, ...] = ()
    """Further names of the base, as adapters give them in `base_model_name_or_path`.

    An adapter that names none of `model`, the base's own name and these is not loaded.
    """
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Type of the weights in memory."""
    max_model_len: Count | None = None
    """Longest prompt plus answer. Unit: tokens. Default: that of the model."""
    kv_cache: Size | None = None
    """Memory for the KV cache, such as `64MiB`. Default: what the device has left."""
    min_kv_tokens: Count = 4096
    """Least size of the KV cache that a placement must leave. Unit: tokens."""
    max_loras: Count | None = None
    """LoRA slots of a server.

    Unit: slots. Default: chosen from the adapters placed on the server.
    """
    max_lora_rank: Literal[1, 8, 16, 32, 64, 128, 256, 320, 512] | None = None
    """Largest adapter rank of a server. Default: chosen from the adapters."""
    tensor_parallel: Width | None = None
    """Devices that a server spreads the base over.

    Unit: devices. Default: the fewest that hold the base, or that keep a promise.
    """
    weight_bytes: Size | None = None
    """Weights of the base in memory, such as `14.9GiB`.

    Default: those of its files or lock, else computed from its `config.json`.
    """
    kv_bytes_per_token: Count | None = None
    """KV cache of a token on a device. Unit: bytes. Default: computed from `config.json`."""
    active_parameters: Many | None = None
    """Parameters that a token is multiplied with, below those of all experts.

    Unit: parameters. Default: computed from `config.json`.
    """
    max_in_flight: Count | None = None
    """Requests that a gateway keeps at work on a server at a time. Unit: requests.

    Further requests wait in the gateway, where clients take turns: by the `weight` of their tier,
    and short answers before long ones. Default: as many as the server says it runs (`/metrics`
    of vLLM) and a quarter more, at least four; 256 where the server does not say. A number that is
    never reached leaves requests to the servers' own queue, first come, first served.
    """
    flags: dict[Flag, FlagValue] = {}
    """Further vLLM flags by their long names, such as `enable-prefix-caching: true`.

    `true` and `false` tell a switch on and off; several values are words of one text. Flags that
    run code, or open the server, are allowed by the operator: `fleetctl trust add --code`.
    """


class Device(Section):
    """A GPU, or the CPU, of a host."""

    kind: Word
    """Profile, such as `h100_80g`, `rtx4090_24g` or `cpu`."""
    memory: Size
    """Memory that a server may use, such as `80GiB`; at most what drivers of the kind report."""
    memory_bandwidth: Rate | None = None
    """Peak bandwidth between the device and its memory. Unit: GB/s. Default: that of the kind."""
    tflops: Rate | None = None
    """Peak dense 16 bit arithmetic. Unit: 10^12 operations/s. Default: that of the kind."""
    price_per_hour: Amount = 0.0
    """Cost an hour, see `billing` of the host; in the currency of all prices.

    Unit: currency per hour.
    """
    port: Port | None = None
    """Port of its server. Default: the host's port plus the device's place among their names.

    Numbers in names are compared as numbers: `gpu2` stands before `gpu10`.
    """
    state: DeviceState = "active"
    """Whether the device takes servers and adapters; a stricter `state` of the host wins."""


class Tls(Section):
    """The files for TLS to an attached server."""

    ca: PemFile | None = None
    """PEM file of the authority that signed the server's certificate.

    Default: the authorities that the machine knows.
    """
    certificate: PemFile | None = None
    """PEM file with the certificate that the server asks for, and its key unless `key` is given.

    Default: none is shown.
    """
    key: PemFile | None = None
    """PEM file with the key of `certificate`, without a password. Default: it stands in that."""
    name: ServerName | None = None
    """Name that the server's certificate must have, where `ca` is given. Default: that of `url`."""


class AttachedServer(Section):
    """A vLLM server that fleetctl neither starts nor stops."""

    url: Url
    """URL at which the server answers, such as `http://10.0.0.5:8000`."""
    base: Id
    """The base that the server serves."""
    max_loras: Count
    """LoRA slots that the server was started with. Unit: slots."""
    max_lora_rank: Count
    """Largest adapter rank that the server was started with. Unit: rank."""
    api_key: SecretRef | None = None
    """Key that the server asks for (`--api-key`), such as `env:VLLM_KEY`. Default: none.

    fleetctl and gateways of kind `fleetctl` send it, over HTTPS or within a machine alone.
    """
    tls: Tls | None = None
    """Files for a `url` with `https`; they lie where fleetctl runs, and where the gateway runs."""
    price_per_hour: Amount = 0.0
    """Cost an hour, in the currency of all prices. Unit: currency per hour."""
    state: DeviceState = "active"
    """Whether the server takes adapters; a stricter `state` of the host wins."""


class Host(Section):
    """A machine whose devices run servers, or a group of attached servers."""

    formerly: Id | None = None
    """The first name of a renamed host; it stays in the names of the host's servers."""
    engine: EngineName = "local"
    """`local`: fleetctl starts vLLM on this machine. `ssh`: on another, as units of systemd.

    `ray`: on a node of a Ray cluster, as an actor. `attach`: attached servers. `fake`: answers made
    up. Any other: of a package in `extensions`.
    """
    cluster: Url | None = None
    """URL of the dashboard of the cluster's head, which takes jobs (engine `ray`)."""
    node: HostAddress | None = None
    """Address of a node of the cluster, as Ray names the node (engine `ray`).

    Servers of the host listen there.
    """
    token: SecretRef | None = None
    """Token that the cluster asks for (engine `ray`), such as `env:RAY_TOKEN`.

    It is sent over HTTPS or within a machine alone.
    """
    insecure: bool = False
    """Whether the cluster may be without a token (engine `ray`).

    All who reach the cluster's head run programs on its nodes then.
    """
    python: Program | None = None
    """Interpreter that has vLLM. Relative to the project; engine `ssh`: to the user's home there.

    Engine `local` needs `python`; engine `ray` needs its absolute path on the node.

    Default (`ssh`): `.local/share/fleetctl/vllm/bin/python`.
    """
    supervisor: Literal["systemd", "systemd-system"] | None = None
    """`systemd`: units of the user keep the servers, also at boot (engine `local`).

    `systemd-system`: instances of a template that root installs (engine `ssh`). Default: processes
    that outlive the command; engine `ssh`: units of the user.
    """
    image: Image | None = None
    """Image with vLLM that servers run from as containers of podman (engine `ssh`), by digest.

    Such as `docker.io/vllm/vllm-openai:v0.32.0@sha256:…`; in place of `python`.
    """
    store: Folder | None = None
    """Folder for adapters and bases on the host (engine `ssh`), relative to the user's home.

    Engine `ray`: the absolute path of a folder that this machine and the node share.

    Default (`ssh`): `.local/share/fleetctl/store`.
    """
    fetch: bool = False
    """Whether the host fetches versions from their sources itself (engines `ssh` and `ray`)."""
    address: HostAddress = "127.0.0.1"
    """Address that the host's servers listen on.

    Engine `ssh`: the host as `ssh` takes it, such as `user@10.0.0.5:2222`; there its servers listen
    on 127.0.0.1.
    """
    port: Port = 8100
    """Port of the first device's server; each further device, by name, counts up."""
    devices: dict[Id, Device] = {}
    """Devices by name; the order in which they are listed means nothing."""
    servers: dict[Id, AttachedServer] = {}
    """Servers by name (engine `attach`)."""
    paths: dict[Word, Word] = {}
    """Folders of this machine to the same folders as the servers see them (engine `attach`)."""
    state: DeviceState = "active"
    """`active`; `cordoned`: takes nothing new; `draining`: adapters and servers leave."""
    reserved_for: tuple[Id, ...] = ()
    """Tiers and clients whose adapters alone may be placed here. Default: all."""
    memory: Size | None = None
    """Main memory that the adapters its servers list may take together, such as `256GiB`.

    A server keeps up to `max_cpu_loras` adapters in main memory, once for each device of the
    server. Default: not limited.
    """
    restart_after: Duration = timedelta(minutes=2)
    """Time after which `reconcile` replaces a server that gives no sign of life, such as `2m`.

    Such a server answers neither requests nor `/health`, and its counters of tokens stand still.
    Replaced twice within an hour at most. Attached servers and those of boxes are only named.
    """
    billing: Billing = "always"
    """Whether devices cost `always`, or only `in_use`: in hours in which they have a server."""
    vllm: Release | None = None
    """Version of vLLM that the host's servers run, such as `0.32.0`; slots take memory by version.

    Another version than that of running servers is an upgrade of these servers, where a client has
    a golden set as a gate. Default: the version that a running server of the host tells.
    """


class Gateway(Section):
    """A process that clients talk to."""

    listen: Listen
    """Host and port for clients, such as `127.0.0.1:8080`."""
    admin: AdminAddress | None = None
    """Socket path or URL of the admin side. Default: a socket in the state folder.

    A gateway on another machine has a URL, and keeps its routes in a state folder there.
    """
    host: Word | None = None
    """Host of engine `ssh` that the gateway runs on; fleetctl forwards the port of `admin` there.

    `admin` is then such as `http://127.0.0.1:9302`: its address on that host.
    """
    certificate: Word | None = None
    """Path of a PEM file with certificate and key, for an `admin` that begins with `https`.

    It lies on the gateway's machine.
    """
    secret: SecretRef | None = None
    """The operator's secret: opens the admin side over TCP, and calls any alias for evaluation.

    Default: a secret that fleetctl makes and keeps in the state folder.
    """
    kind: GatewayKind = "fleetctl"
    """`fleetctl`: fleetctl's own process. `envoy`: an Envoy on this machine, which the operator
    starts, and which follows the files that `apply` and `rollback` write for it."""
    usage_log: Size | None = None
    """Size above which the oldest files of its usage log are removed, such as `50GiB`.

    Removed are ingested files alone; above it with none to remove, the gateway has a fault.
    Default: 50GiB.
    """
