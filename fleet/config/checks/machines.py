"""Checks hosts and gateways: engines, ports, kinds of devices, and addresses within reach."""

from collections.abc import Collection, Iterable, Iterator

from fleet.codes import nearest
from fleet.config.checks.references import DeclaredNames, reference
from fleet.config.files.merge import Path
from fleet.config.files.validate import Problem
from fleet.config.scalars.texts import is_bind_address, is_loopback
from fleet.config.schema.fleet import Declarations
from fleet.config.schema.machines import AttachedServer, Gateway, Host
from fleet.hardware import SHEETS, SYSTEM, HostSpec, Profile, sheet_of
from fleet.names import SSH_DESTINATION, by_number

STARTING = {"local", "ssh", "ray"}
"""Engines that start vLLM."""
_ANY = {"0.0.0.0", "[::]", "localhost"}  # noqa: S104 (compared, never bound)
_OTHERS = (
    "A machine reached by SSH has `engine: ssh`, a node of a Ray cluster `ray`, servers that "
    "others start `attach`, and a machine that is only planned for `fake`."
)
_ANEW = (
    "Declare a machine once. If there are two: write one in another way, such as with its port or "
    "as an alias of ssh's configuration."
)


def port_faults(
    ports: dict[tuple[str, int], Path], taken: tuple[str, int], path: Path
) -> Iterator[Problem]:
    """Check that a port is given once; `ports` has those so far, by address and port."""
    where = "127.0.0.1" if taken[0] in _ANY else taken[0]
    if (first := ports.setdefault((where, taken[1]), path)) != path:
        shown = f"{taken[0]}:{taken[1]}" if taken[1] else taken[0]
        detail = f"`{shown}` is given to `{'.'.join(map(str, first[1:4]))}` as well."
        also = (("first given at", first),)
        yield Problem("FC1207", path, detail, hint="Choose another port.", also=also)


def address_faults(
    path: Path, host: Host, address: str, machines: dict[str, Path]
) -> Iterator[Problem]:
    """Check the address of a host, and that no other host is the same machine.

    `machines` has the hosts so far that start vLLM, by the address at which they are reached.
    """
    at = (*path, "node" if host.engine == "ray" else "address")
    is_local = host.engine == "local"
    if address and is_local and not is_loopback(address):
        detail = f"Servers of engine `local` listen on this machine alone, not on `{address}`."
        yield Problem("FC1267", at, detail, hint=f"Delete it. {_OTHERS}")
        return
    fits = SSH_DESTINATION.fullmatch if host.engine == "ssh" else is_bind_address
    if address and not fits(address):
        detail = f"`{address}` is no address for a host of engine `{host.engine}`."
        hint = "`ssh` takes `user@host:port` and `[IPv6]`; other engines a name or an IP address."
        yield Problem("FC1208", at, detail, hint=hint)
    elif host.engine in STARTING and (is_local or address):
        reached = (
            "" if is_local else HostSpec(str(path[1]), host.engine, address=address).reached_at
        )
        first = machines.setdefault(reached, path)
        if first != path:
            also = (("first given at", first),)
            detail = (
                f"`{first[1]}` and `{path[1]}` are both this machine, and would start servers on "
                "the same GPUs."
                if is_local
                else f"`{first[1]}` and `{path[1]}` would both be reached at {reached}."
            )
            code, hint = ("FC1267", _OTHERS) if is_local else ("FC1268", _ANEW)
            yield Problem(code, path, detail, hint=hint, at="key", also=also)


def check_hosts(given: Declarations, names: DeclaredNames) -> Iterator[Problem]:
    """Check hosts, their servers, and gateways."""
    ports: dict[tuple[str, int], Path] = {}
    servers: dict[str, Path] = {}
    machines: dict[str, Path] = {}
    for name, host in given.hosts.items():
        path: Path = ("hosts", name)
        yield from _engine(path, host, names)
        address = _address(path, host, names)
        yield from address_faults(path, host, address, machines)
        yield from _reserved((*path, "reserved_for"), host, given, names)
        for device, port in ports_of(host).items():
            own = host.devices[device].port is not None
            at = (*path, "devices", device, *(("port",) if own else ()))
            if port > 65535:  # noqa: PLR2004 (the last port)
                detail = f"`{device}` would get port {port}, and the last port is 65535."
                yield Problem("FC1111", at, detail, hint="Lower the host's `port`.", at="key")
            elif host.engine != "attach":
                yield from port_faults(ports, (address or name, port), at)
        for server, attached in host.servers.items():
            at = (*path, "servers", server)
            yield from reference("FC1202", "base", attached.base, names.bases, (*at, "base"))
            first = servers.setdefault(server, at)
            if first != at:
                detail = f"Two servers are called `{server}`; addresses name servers alone."
                also = (("first given at", first),)
                hint = "Rename one of them."
                yield Problem("FC1002", at, detail, hint=hint, at="key", also=also)
            yield from port_faults(ports, (attached.url, 0), (*at, "url"))
            yield from _tls((*at, "tls"), attached)
    for name, gateway in given.gateways.items():
        address, _, port_text = gateway.listen.rpartition(":")
        yield from port_faults(ports, (address, int(port_text)), ("gateways", name, "listen"))
        if gateway.kind == "envoy":
            yield from _envoy(("gateways", name), gateway)
        if gateway.host:
            yield from _forwarded(("gateways", name, "host"), gateway, given)
    yield from _keys_of_servers(given)


def _address(path: Path, host: Host, names: DeclaredNames) -> str:
    """Return the address of a host; empty: absent or malformed, which is told elsewhere."""
    if host.engine == "ray":
        return host.node or ""
    is_given = host.engine != "ssh" or names.written(*path, "address") == host.address
    return host.address if is_given else ""


def ports_of(host: Host) -> dict[str, int]:
    """Return ports by device: declared, or the host's port plus the position.

    Positions follow the order of the names, `gpu2` before `gpu10`: the order in the file means
    nothing, and a device that is added behind the others moves no port.
    """
    return {
        device: host.devices[device].port or host.port + position
        for position, device in enumerate(sorted(host.devices, key=by_number))
    }


def check_kinds(given: Declarations, measured: Collection[str]) -> Iterator[Problem]:
    """Yield kinds of device without a known speed; `measured` have a profile."""
    known = {*measured}
    for name, host in given.hosts.items():
        for device, its in host.devices.items():
            own = its.memory_bandwidth and its.tflops
            if own or its.kind in known or sheet_of(its.kind) is not None:
                continue
            known.add(its.kind)
            path = ("hosts", name, "devices", device, "kind")
            detail = (
                f"Nothing is known of the speed of `{its.kind}`, so a plan that starts servers on "
                "it needs a decision: they have no limit of throughput."
            )
            hint = nearest(its.kind, tuple(SHEETS))
            hint = f"{hint} Known are {', '.join(SHEETS)}; others are measured, or declared: "
            hint = f"{hint.strip()}`memory_bandwidth` and `tflops` of its data sheet."
            command = "fleetctl calibrate SERVER"
            yield Problem("FC1262", path, detail, hint=hint, command=command, severity="warning")


def check_profiles(given: Declarations, profiles: Iterable[Profile]) -> Iterator[Problem]:
    """Yield a warning for measured profiles of bases that are not declared."""
    for name in sorted({profile.base for profile in profiles} - given.bases.keys()):
        detail = f"A profile in `calibration` was measured on base `{name}`, which is not "
        detail += "declared: no plan goes by it."
        hint = nearest(name, tuple(given.bases)) or "Delete the file, or measure again."
        command = "fleetctl calibrate SERVER"
        yield Problem("FC1237", ("bases",), detail, hint=hint, command=command, severity="warning")


def _envoy(path: Path, gateway: Gateway) -> Iterator[Problem]:
    if "://" in (gateway.admin or ""):
        detail = "fleetctl writes an Envoy's files and asks it on a socket whether it serves them."
        command = "fleetctl compile --target envoy --out FOLDER"
        hint = "Name a socket path, or leave `admin` out. For an Envoy elsewhere, compile."
        yield Problem("FC1261", (*path, "admin"), detail, hint=hint, command=command)
    detail = (
        f"Gateway `{path[1]}` is an Envoy: it assigns users to versions by another hash, keeps "
        "API keys in clear in its files, and writes bodies anew."
    )
    hint, command = "The plan lists all that is lost in translation.", "fleetctl plan"
    yield Problem("FC1260", path, detail, hint=hint, command=command, at="key", severity="warning")


def _forwarded(path: Path, gateway: Gateway, given: Declarations) -> Iterator[Problem]:
    yield from reference("FC1205", "host", gateway.host, sorted(given.hosts), path)
    host = given.hosts.get(gateway.host or "")
    if host and host.engine != "ssh":
        detail = f"`{gateway.host}` is of engine `{host.engine}`, and no port is forwarded there."
        yield Problem("FC1208", path, detail, hint="Name a host of engine `ssh`, or delete it.")
    elif not (gateway.admin or "").startswith("http://127.0.0.1:"):
        detail = "The gateway's `admin` is not at a port of `127.0.0.1`, which is forwarded."
        hint = "Declare `admin: http://127.0.0.1:PORT`, as on that host, or delete `host`."
        yield Problem("FC1208", path, detail, hint=hint)


def _tls(path: Path, server: AttachedServer) -> Iterator[Problem]:
    tls = server.tls
    if tls is None:
        return
    if not server.url.startswith("https:"):
        detail = f"`{server.url}` is reached over plain HTTP, where `tls` means nothing."
        yield Problem("FC1208", path, detail, hint="Write https://, or delete `tls`.", at="key")
    for key, needed in (("key", "certificate"), ("name", "ca")):
        if getattr(tls, key) and not getattr(tls, needed):
            detail = f"`{key}` means nothing without `{needed}`."
            hint = f"Add `{needed}`, or delete `{key}`."
            yield Problem("FC1208", (*path, key), detail, hint=hint, at="key")


def _keys_of_servers(given: Declarations) -> Iterator[Problem]:
    places: list[Path] = [("servers_secret",)] if given.servers_secret else []
    places += [
        ("hosts", name, "servers", server, field)
        for name, host in given.hosts.items()
        for server, attached in host.servers.items()
        for field in ("api_key", "tls")
        if getattr(attached, field)
    ]
    if places and {its.kind for its in given.gateways.values()} != {"fleetctl"}:
        detail = "Servers with keys or `tls` need gateways, and of kind `fleetctl` alone."
        also = tuple(("and here", place) for place in places[1:])
        yield Problem("FC1269", places[0], detail, hint="Declare no other gateways.", also=also)


_OF_RAY = ("cluster", "node", "token", "insecure")
_KEYS = {
    "local": (("devices", "python"), ("servers", "paths", "store", "image", "fetch", *_OF_RAY)),
    "ssh": (("devices", "address"), ("servers", "paths", *_OF_RAY)),
    "ray": (("devices", "cluster", "node", "python", "store"), ("servers", "paths", "image")),
    "fake": (("devices",), ("servers", "paths", "store", "image", "fetch", *_OF_RAY)),
    "attach": (("servers",), ("devices", "store", "image", "fetch", *_OF_RAY)),
}
"""Keys that a host needs and keys that a host must not have, by engine."""
_OF_EXTENSION = (("devices",), ("servers", "paths", "image", "fetch", *_OF_RAY))
"""The same for engines of extensions."""
_EXAMPLES = {
    "devices": "`devices: {gpu0: {kind: h100_80g, memory: 80GiB}}`",
    "address": "`address: fleet@10.0.0.5`",
    "cluster": "`cluster: http://127.0.0.1:8265`",
    "node": "`node: 10.0.0.11`",
    "python": "`python: .venv-vllm/bin/python`",
    "store": "`store: /mnt/fleetctl`",
    "servers": "`servers: {a: {url: …, base: …, max_loras: 16, max_lora_rank: 64}}`",
}


def _engine(path: Path, host: Host, names: DeclaredNames) -> Iterator[Problem]:
    needed, unfit = _KEYS.get(host.engine, _OF_EXTENSION)
    by_image = " with `image`" if host.image and host.engine == "ssh" else ""
    keeper = {"local": "systemd", "ssh": None if by_image else SYSTEM}.get(host.engine)
    unfit = (*unfit, *(["python"] if by_image else []))
    for key in unfit if host.supervisor == keeper else (*unfit, "supervisor"):
        if value := getattr(host, key):
            shown = f"`{key}: {value}`" if key == "supervisor" else key
            detail = f"A host of engine `{host.engine}`{by_image} has no {shown}."
            hint = f"Delete it, or change `{'image' if by_image else 'engine'}`."
            yield Problem("FC1208", (*path, key), detail, hint=hint, at="key")
    for key in needed:
        if not names.written(*path, key):  # malformed: reported already
            detail = f"A host of engine `{host.engine}` needs `{key}`, and `{path[1]}` has none."
            yield Problem("FC1209", path, detail, hint=f"Add {_EXAMPLES[key]}.", at="key")
    if host.engine == "ray":
        yield from _ray(path, host, names)


def _ray(path: Path, host: Host, names: DeclaredNames) -> Iterator[Problem]:
    if names.written(*path, "address"):
        detail = "Servers of engine `ray` listen on the address of their `node`."
        yield Problem("FC1208", (*path, "address"), detail, hint="Delete it.", at="key")
    if not host.token and not host.insecure:
        detail = f"`{path[1]}` names no `token`, and everybody may run programs on an open cluster."
        hint = "Start Ray with `RAY_AUTH_MODE=token`, and add `token: env:RAY_TOKEN`."
        yield Problem("FC1209", path, detail, hint=hint, at="key")
    if host.token and host.insecure:
        detail = "`insecure` says that the cluster asks for no token, and `token` names one."
        yield Problem("FC1208", (*path, "insecure"), detail, hint="Delete one of them.", at="key")
    for key in ("python", "store"):
        value = getattr(host, key)
        if value and (not value.startswith("/") or ".." in value.split("/")):
            detail = f"`{value}` is not the absolute path that a node of Ray needs."
            yield Problem("FC1208", (*path, key), detail, hint="Write it from `/` on.")


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
