"""Checks bases, hosts and gateways: engines, ports, flags, and whether a base can be sharded."""

from collections.abc import Collection, Iterator, Mapping

from fleet.codes import nearest
from fleet.config.checks.references import DeclaredNames, Path, reference
from fleet.config.problems import Problem
from fleet.config.schema.fleet import Declarations
from fleet.config.schema.machines import Base, Gateway, Host
from fleet.hardware import SHEETS, BaseShape, sheet_of
from fleet.names import by_number
from fleet.vllm import why_reserved


def check_bases(given: Declarations, shapes: Mapping[str, BaseShape]) -> Iterator[Problem]:
    """Check bases; `shapes` are their dimensions where known."""
    for name, base in given.bases.items():
        for flag, value in base.flags.items():
            reserved = why_reserved(flag, str(value))
            if reserved:
                path: Path = ("bases", name, "flags", flag)
                detail = f"`{flag}` is not free to choose: {reserved}."
                yield Problem("FC1215", path, detail, hint="Delete the flag.", at="key")
        if name in shapes:
            yield from _width(name, base, shapes[name])


def _width(name: str, base: Base, shape: BaseShape) -> Iterator[Problem]:
    """Say that a base cannot be split over that number of devices."""
    width = base.tensor_parallel or 1
    if splits(shape, width):
        return
    fitting = [parts for parts in range(1, 65) if splits(shape, parts)]
    detail = (
        f"The {shape.num_attention_heads} attention heads, {shape.num_key_value_heads} key heads "
        f"and the inner size of {shape.intermediate_size} of `{name}` cannot be divided among "
        f"{width} devices."
    )
    hint = f"Choose one of {', '.join(map(str, fitting))}."
    yield Problem("FC1220", ("bases", name, "tensor_parallel"), detail, hint=hint)


def splits(shape: BaseShape, width: int) -> bool:
    """Say whether a base can be divided among `width` devices.

    Each gets whole attention heads and an equal part of the inner layer. With fewer key and
    value heads than devices, each head is kept on several, and the devices must be a multiple
    of the heads.
    """
    few, many = sorted((shape.num_key_value_heads, width))
    return (
        shape.num_attention_heads % width == 0
        and shape.intermediate_size % width == 0
        and (few == 0 or many % few == 0)
    )


def check_hosts(given: Declarations, names: DeclaredNames) -> Iterator[Problem]:
    """Check hosts, their servers, and gateways."""
    ports: dict[tuple[str, int], Path] = {}
    servers: dict[str, Path] = {}
    for name, host in given.hosts.items():
        path: Path = ("hosts", name)
        yield from _engine(path, host, _written(names, name))
        yield from _reserved((*path, "reserved_for"), host, given, names)
        for device, port in ports_of(host).items():
            own = host.devices[device].port is not None
            at = (*path, "devices", device, *(("port",) if own else ()))
            if port > 65535:  # noqa: PLR2004 (the last port)
                detail = f"`{device}` would get port {port}, and the last port is 65535."
                yield Problem("FC1111", at, detail, hint="Lower the host's `port`.", at="key")
            elif host.engine != "attach":
                yield from _port(ports, (host.address, port), at)
        for server, attached in host.servers.items():
            at = (*path, "servers", server)
            base = (*at, "base")
            yield from reference("FC1202", "base", attached.base, names.bases, base)
            if server in servers:
                detail = f"Two servers are called `{server}`; addresses name servers alone."
                also = (("first given at", servers[server]),)
                hint = "Rename one of them."
                yield Problem("FC1002", at, detail, hint=hint, at="key", also=also)
            servers.setdefault(server, at)
            yield from _port(ports, (attached.url, 0), (*at, "url"))
    for name, gateway in given.gateways.items():
        address, _, port_text = gateway.listen.rpartition(":")
        listen: Path = ("gateways", name, "listen")
        yield from _port(ports, (address, int(port_text)), listen)
        yield from _envoy(("gateways", name), gateway)


def ports_of(host: Host) -> dict[str, int]:
    """Return ports by device: declared, or the host's port plus the position.

    Places are counted in the order of the names, `gpu2` before `gpu10`: it is the same however
    the devices are listed, and a device that is added behind the others moves no port.
    """
    return {
        device: host.devices[device].port or host.port + place
        for place, device in enumerate(sorted(host.devices, key=by_number))
    }


def check_kinds(given: Declarations, measured: Collection[str]) -> Iterator[Problem]:
    """Yield kinds of device without a known speed.

    Args:
        given: The declarations.
        measured: Kinds of which there is a profile.
    """
    told = {*measured}
    for name, host in given.hosts.items():
        for device, its in host.devices.items():
            if its.kind in told or sheet_of(its.kind) is not None:
                continue
            told.add(its.kind)
            detail = (
                f"Nothing is known of the speed of `{its.kind}`, so servers on it are planned "
                "without a limit of throughput."
            )
            known = ", ".join(SHEETS)
            hint = f"{nearest(its.kind, tuple(SHEETS))} Known are {known}; others are measured."
            yield Problem(
                "FC1262", ("hosts", name, "devices", device, "kind"), detail, hint=hint.strip(),
                command="fleetctl calibrate SERVER", severity="warning",
            )  # fmt: skip


def _envoy(path: Path, gateway: Gateway) -> Iterator[Problem]:
    if gateway.kind != "envoy":
        return
    if "://" in (gateway.admin or ""):
        detail = "fleetctl writes an Envoy's files and asks it on a socket whether it serves them."
        hint = "Name a socket path, or leave `admin` out. For an Envoy elsewhere, compile."
        command = "fleetctl compile --target envoy --out FOLDER"
        yield Problem("FC1261", (*path, "admin"), detail, hint=hint, command=command)
    detail = (
        f"Gateway `{path[1]}` is an Envoy: it assigns users to versions by another hash, keeps "
        "API keys in clear in its files, and writes bodies anew."
    )
    command = "fleetctl plan"
    hint = "The plan lists all that is lost in translation."
    yield Problem("FC1260", path, detail, hint=hint, command=command, at="key", severity="warning")


_ANY = {"0.0.0.0", "[::]", "localhost"}  # noqa: S104 (compared, never bound)


def _port(
    ports: dict[tuple[str, int], Path], taken: tuple[str, int], path: Path
) -> Iterator[Problem]:
    where = "127.0.0.1" if taken[0] in _ANY else taken[0]
    first = ports.setdefault((where, taken[1]), path)
    if first != path:
        shown = f"{taken[0]}:{taken[1]}" if taken[1] else taken[0]
        detail = f"`{shown}` is given to `{'.'.join(map(str, first[1:4]))}` as well."
        also = (("first given at", first),)
        yield Problem("FC1207", path, detail, hint="Choose another port.", also=also)


def _written(names: DeclaredNames, host: str) -> Mapping[str, object]:
    """Return a host as the file states it, malformed parts included."""
    hosts = names.value.get("hosts")
    its = hosts.get(host) if isinstance(hosts, dict) else None
    return its if isinstance(its, dict) else {}


def _engine(path: Path, host: Host, written: Mapping[str, object]) -> Iterator[Problem]:
    unfit = {
        "local": ("servers", "paths"),
        "fake": ("servers", "paths"),
        "attach": ("devices",),
    }[host.engine]
    for key in unfit:
        if getattr(host, key):
            detail = f"A host of engine `{host.engine}` has no {key}."
            hint = "Delete it, or change `engine`."
            yield Problem("FC1208", (*path, key), detail, hint=hint, at="key")
    needed = {
        "local": ("devices", "python"),
        "fake": ("devices",),
        "attach": ("servers",),
    }[host.engine]
    examples = {
        "devices": "`devices: {gpu0: {kind: h100_80g, memory: 80GiB}}`",
        "python": "`python: .venv-vllm/bin/python`",
        "servers": "`servers: {a: {url: …, base: …, max_loras: 16, max_lora_rank: 64}}`",
    }
    for key in needed:
        if not getattr(host, key) and not written.get(key):  # what is malformed is told already
            detail = f"A host of engine `{host.engine}` needs `{key}`, and `{path[1]}` has none."
            yield Problem("FC1209", path, detail, hint=f"Add {examples[key]}.", at="key")


def _reserved(
    path: Path, host: Host, given: Declarations, names: DeclaredNames
) -> Iterator[Problem]:
    known = tuple(sorted({*names.tiers, *names.clients}))
    used = {client.tier or given.defaults.tier for client in given.clients.values()}
    for position, name in enumerate(host.reserved_for):
        if name not in known:
            hint = nearest(name, known) or f"Declared: {', '.join(known[:8])}."
            detail = f"No tier and no client is called `{name}`."
            yield Problem("FC1221", (*path, position), detail, hint=hint)
    if host.reserved_for and not {*used, *names.clients} & {*host.reserved_for}:
        detail = f"No client has a tier that `{path[1]}` is reserved for, so it stays empty."
        hint = "Delete `reserved_for`, or name a tier or client that has adapters."
        yield Problem("FC1222", path, detail, hint=hint, at="key", severity="warning")
