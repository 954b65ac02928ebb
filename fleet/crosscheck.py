"""References and rules that reach over several declarations."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from fleet.declarations import UNITS, Adapter, Declarations, Host, Rollout
from fleet.lock import Lock
from fleet.names import AdapterName, Version, is_id
from fleet.problems import Finding, nearest

Path = tuple[str | int, ...]
FULL = 100
RESERVED_FLAGS = {
    "api-key": "clients' keys are checked by the gateway",
    "dtype": "set `dtype`",
    "enable-lora": "it is always on",
    "fingerprint-mode": "it stamps the digest of the flags",
    "fingerprint-value": "it stamps the digest of the flags",
    "gpu-memory-utilization": "the planner sets it; see `kv_cache` and the device's `memory`",
    "host": "set `address` on the host",
    "kv-cache-memory-bytes": "set `kv_cache`",
    "lora-modules": "adapters are loaded by `apply`",
    "max-cpu-loras": "the planner sets it",
    "max-lora-rank": "set `max_lora_rank`",
    "max-loras": "set `max_loras`",
    "max-model-len": "set `max_model_len`",
    "model": "set `model`",
    "port": "set `port` on the host or device",
    "served-model-name": "it is the base's name",
    "tensor-parallel-size": "the planner sets it",
}


@dataclass(frozen=True, slots=True)
class Names:
    """All declared names, those of malformed declarations included."""

    tiers: Sequence[str]
    bases: Sequence[str]
    rollouts: Sequence[str]
    gates: Sequence[str]
    holders: Sequence[str]
    """Hosts and attached servers: what an adapter may be pinned to."""

    @classmethod
    def of(cls, value: Mapping[str, Any], given: Declarations) -> Self:
        """Collect the names from the merged values."""

        def keys(section: str, *builtin: str) -> Sequence[str]:
            found = value.get(section)
            return sorted({*builtin, *(map(str, found) if isinstance(found, dict) else ())})

        servers = (server for host in given.hosts.values() for server in host.servers)
        return cls(
            keys("tiers", "standard"),
            keys("bases"),
            keys("rollouts", "standard"),
            keys("gates"),
            sorted({*keys("hosts"), *servers}),
        )


def check(
    given: Declarations,
    names: Names,
    lock: Lock,
    zones: frozenset[str],
    absent: frozenset[str],
) -> Iterator[Finding]:
    """Yield every problem that no single value shows."""
    yield from _reference("FC1201", "tier", given.defaults.tier, names.tiers, ("defaults", "tier"))
    default = ("defaults", "rollout")
    yield from _reference("FC1203", "rollout", given.defaults.rollout, names.rollouts, default)
    for name, rollout in given.rollouts.items():
        yield from _rollout(("rollouts", name), rollout, names)
    for name, gate in given.gates.items():
        allowed = UNITS[gate.metric]
        if gate.max.unit not in allowed:
            units = " or ".join(allowed)
            detail = f"`{gate.metric}` is limited in {units}, not in {gate.max.unit}."
            hint = f"Write such as `{gate.max.number:g}{allowed[0]}`."
            yield Finding("FC1214", ("gates", name, "max"), detail, hint=hint)
    for name, base in given.bases.items():
        for flag in base.flags:
            reserved = RESERVED_FLAGS.get(flag.removeprefix("no-"))
            if reserved:
                path: Path = ("bases", name, "flags", flag)
                detail = f"`{flag}` is not free to choose: {reserved}."
                yield Finding("FC1215", path, detail, hint="Delete the flag.", at="key")
    yield from _hosts(given, names)
    yield from _clients(given, names, lock, zones, absent)


def _reference(
    code: str, kind: str, name: str | None, names: Sequence[str], path: Path
) -> Iterator[Finding]:
    if name is None or name in names:
        return
    hint = nearest(name, tuple(names))
    if not hint:
        hint = f"Declared: {', '.join(names[:8])}." if names else f"Declare it under `{kind}s:`."
    yield Finding(code, path, f"No {kind} is called `{name}`.", hint=hint)


def _rollout(path: Path, rollout: Rollout, names: Names) -> Iterator[Finding]:
    weights = rollout.weights
    for position, gate in enumerate(rollout.gates):
        yield from _reference("FC1204", "gate", gate, names.gates, (*path, "gates", position))
    hint = "Write such as `weights: [10%, 50%, 100%]`."
    at = (*path, "weights")
    if not weights or weights[-1] != FULL:
        detail = f"The last stage of `{path[1]}` is not 100 %, so a version could never take over."
        yield Finding("FC1115", at, detail, hint=hint, at="value" if weights else "key")
    for position, (before, after) in enumerate(zip((0, *weights), weights, strict=False)):
        if after <= before:
            detail = f"Stage {after} % does not exceed the stage before it ({before} %)."
            yield Finding("FC1115", (*at, position), detail, hint=hint)


def _hosts(given: Declarations, names: Names) -> Iterator[Finding]:
    ports: dict[tuple[str, int], Path] = {}
    servers: dict[str, Path] = {}
    for name, host in given.hosts.items():
        path: Path = ("hosts", name)
        yield from _engine(path, host)
        for position, (device, its) in enumerate(host.devices.items()):
            at = (*path, "devices", device, *(("port",) if its.port else ()))
            port = its.port or host.port + position
            if port > 65535:  # noqa: PLR2004 (the last port)
                detail = f"`{device}` would get port {port}, and the last port is 65535."
                yield Finding("FC1111", at, detail, hint="Lower the host's `port`.", at="key")
            elif host.engine != "attach":
                yield from _port(ports, (host.address, port), at)
        for server, attached in host.servers.items():
            at = (*path, "servers", server)
            base = (*at, "base")
            yield from _reference("FC1202", "base", attached.base, names.bases, base)
            if server in servers:
                detail = f"Two servers are called `{server}`; addresses name servers alone."
                also = (("first given at", servers[server]),)
                hint = "Rename one of them."
                yield Finding("FC1002", at, detail, hint=hint, at="key", also=also)
            servers.setdefault(server, at)
            yield from _port(ports, (attached.url, 0), (*at, "url"))
    for name, gateway in given.gateways.items():
        address, _, port_text = gateway.listen.rpartition(":")
        listen: Path = ("gateways", name, "listen")
        yield from _port(ports, (address, int(port_text)), listen)


_ANY = {"0.0.0.0", "[::]", "localhost"}  # noqa: S104 (compared, never bound)


def _port(
    ports: dict[tuple[str, int], Path], taken: tuple[str, int], path: Path
) -> Iterator[Finding]:
    where = "127.0.0.1" if taken[0] in _ANY else taken[0]
    first = ports.setdefault((where, taken[1]), path)
    if first != path:
        shown = f"{taken[0]}:{taken[1]}" if taken[1] else taken[0]
        detail = f"`{shown}` is given to `{'.'.join(map(str, first[1:4]))}` as well."
        also = (("first given at", first),)
        yield Finding("FC1207", path, detail, hint="Choose another port.", also=also)


def _engine(path: Path, host: Host) -> Iterator[Finding]:
    unfit = {
        "local": ("servers", "paths"),
        "fake": ("servers", "paths"),
        "attach": ("devices",),
    }[host.engine]
    for key in unfit:
        if getattr(host, key):
            detail = f"A host of engine `{host.engine}` has no {key}."
            hint = "Delete it, or change `engine`."
            yield Finding("FC1208", (*path, key), detail, hint=hint, at="key")
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
        if not getattr(host, key):
            detail = f"A host of engine `{host.engine}` needs `{key}`, and `{path[1]}` has none."
            yield Finding("FC1209", path, detail, hint=f"Add {examples[key]}.", at="key")


def _clients(
    given: Declarations,
    names: Names,
    lock: Lock,
    zones: frozenset[str],
    absent: frozenset[str],
) -> Iterator[Finding]:
    former: dict[str, Path] = {}
    unlocked: list[AdapterName] = []
    aliases = {f"{client}-{task}" for client, its in given.clients.items() for task in its.adapters}
    for client_name, client in given.clients.items():
        path: Path = ("clients", client_name)
        yield from _reference("FC1201", "tier", client.tier, names.tiers, (*path, "tier"))
        for task, adapter in client.adapters.items():
            at = (*path, "adapters", task)
            yield from _adapter(at, adapter, names, zones, absent)
            name = AdapterName(client_name, task, adapter.base, Version.parse(adapter.version))
            if str(name) in lock.adapters:
                yield from _rank(given, lock, name)
            elif name.base in names.bases:
                unlocked.append(name)
            if adapter.formerly:
                yield from _rename((*at, "formerly"), adapter.formerly, aliases, former)
    if unlocked:
        yield from _unlocked(unlocked, lock)


def _adapter(
    at: Path, adapter: Adapter, names: Names, zones: frozenset[str], absent: frozenset[str]
) -> Iterator[Finding]:
    yield from _reference("FC1202", "base", adapter.base, names.bases, (*at, "base"))
    yield from _reference("FC1203", "rollout", adapter.rollout, names.rollouts, (*at, "rollout"))
    yield from _reference("FC1205", "host", adapter.pin, names.holders, (*at, "pin"))
    if adapter.demand and zones and adapter.demand.timezone not in zones:
        zone = adapter.demand.timezone
        hint = nearest(zone, tuple(sorted(zones))) or "Write such as `Europe/Paris`."
        detail = f"`{zone}` is not in the time zone database."
        yield Finding("FC1206", (*at, "demand", "timezone"), detail, hint=hint)
    if adapter.golden in absent:
        detail = f"`{adapter.golden}` does not exist in the project."
        hint = "Add the file, or correct the path; gates compare versions on it."
        yield Finding("FC1216", (*at, "golden"), detail, hint=hint)


def _unlocked(names: Sequence[AdapterName], lock: Lock) -> Iterator[Finding]:
    versions: dict[str, list[str]] = {}
    for locked in sorted(map(AdapterName.parse, lock.adapters)):
        versions.setdefault(locked.alias, []).append(str(locked))
    for name in names:
        known = versions.get(name.alias, [])
        near = f"In the lock: {', '.join(known[-4:])}." if known else ""
        detail = f"`{name}` was never added to the library: its bytes are not pinned."
        path = ("clients", name.client, "adapters", name.task, "version")
        command = f"fleetctl adapter add PATH --as {name}"
        yield Finding("FC1210", path, detail, hint=near, command=command)


def _rank(given: Declarations, lock: Lock, name: AdapterName) -> Iterator[Finding]:
    base = given.bases.get(name.base)
    rank = lock.adapters[str(name)].rank
    if base and base.max_lora_rank and rank > base.max_lora_rank:
        detail = (
            f"`{name}` has rank {rank}, and the servers of base `{name.base}` reserve slots of "
            f"rank {base.max_lora_rank}. A server refuses an adapter above its limit."
        )
        hint = f"Raise `max_lora_rank` of `{name.base}`, which restarts its servers."
        also = (("limited at", ("bases", name.base, "max_lora_rank")),)
        path = ("clients", name.client, "adapters", name.task, "version")
        yield Finding("FC1211", path, detail, hint=hint, also=also)


def _rename(
    path: Path, alias: str, aliases: set[str], former: dict[str, Path]
) -> Iterator[Finding]:
    parts = alias.split("-")
    first = former.setdefault(alias, path)
    if len(parts) != 2 or not all(map(is_id, parts)):  # noqa: PLR2004 (client and task)
        detail = f"`{alias}` is not an alias."
        yield Finding("FC1212", path, detail, hint="Write `client-task`, such as `acme-helpdesk`.")
    elif alias in aliases:
        detail = f"`{alias}` is still declared, so nothing was renamed."
        yield Finding("FC1212", path, detail, hint="Delete `formerly`, or the old adapter.")
    elif first != path:
        detail = f"Two adapters claim to be the former `{alias}`."
        also = (("first given at", first),)
        yield Finding("FC1212", path, detail, hint="Only one can take over its history.", also=also)
