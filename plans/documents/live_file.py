"""Write and read the live-state file: the observed state, for `fleetctl plan --live FILE`.

With such a file a plan is made without the fleet: in a test, in CI, for a supposed fleet. The file
holds no secret: keys are references and fingerprints, URLs have no user and password. The folded
ledger and the hosts that may have servers are in it, so that a plan elsewhere is the same plan.

Additions raise the minor version, as in the plan file, of files that have the addition.
"""

import re
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from fleet.codec import MalformedError, decode, plain
from fleet.errors import FleetError, newer_server
from fleet.hardware import HostSpec
from fleet.history import History
from fleet.names import LEDGER, TABLE, address_parts, gateway_address, is_name
from fleet.resources import FORMATS, LoadedAdapter, Resource, Server, State, format_of
from plans.documents.document import read, write

FORMAT = "fleetctl-live"
VERSION = (1, 4)
MAKE = "fleetctl plan --save-live live.json"

_MOST_ON_A_DEVICE = 32
"""Upper bound of the servers on a device: the work of placing grows with a power of them."""
_CREDENTIALS = re.compile(r"(?<=//)[^/@]*@")
_BESIDE = tuple(field.name for field in fields(State) if field.name != "resources")
"""Fields of a state beside its resources. All are in the file: a plan may follow from each."""
_MINORS = {
    **dict.fromkeys(("unknown_servers", "routes_unknown", "boots", "urls", "versions", "notes"), 1),
    "attached": 2,
    "ports": 4,
}
"""Minor version of the format that added a field; every other field came with version 1.3."""
_BY_ADDRESS = ("faults", "resolvable")
_GATEWAYS = "gateways"
"""Faults of gateways by name, in files of minor versions 0 to 2, which had no other fault."""


@dataclass(frozen=True, slots=True)
class KnownPast:
    """The part of a live-state file that is known from before and not observed."""

    history: History | None = None
    """The folded ledger; None: a file of an earlier release, or made by hand."""
    hosts: Mapping[str, HostSpec] | None = None
    """Hosts on which fleetctl has started servers, declared or not."""


def dump(state: State, past: KnownPast | None = None) -> str:
    """Return the live-state file; equal states give equal bytes."""
    beside = {name: plain(found) for name in _BESIDE if (found := getattr(state, name))}
    if "urls" in beside:
        beside["urls"] = {name: _CREDENTIALS.sub("", url) for name, url in beside["urls"].items()}
    minor = max((_MINORS.get(name, 3) for name in beside), default=1)
    document: dict[str, Any] = {
        "format": FORMAT,
        "format_version": f"{VERSION[0]}.{minor}",
        "resources": [plain(resource) for _, resource in sorted(state.resources.items())],
        **beside,
    }
    if past is not None:
        known = {"history": plain(past.history), "hosts": plain(past.hosts)}
        document |= {name: found for name, found in known.items() if found}
    return write(document)


def load(text: str) -> State:
    """Return the state in a live-state file; raises as `load_with_past`."""
    return load_with_past(text)[0]


def load_with_past(text: str) -> tuple[State, KnownPast]:
    """Return the state and the past in a live-state file.

    Raises:
        FleetError: FC5001 to FC5003 as `plans.document.read`; FC5006 a field is wrong; FC4023 a
            server has flags of a later format.
    """
    document, later = read(text, FORMAT, VERSION, MAKE)
    beside = {name: document[name] for name in document.keys() - {"format", "format_version"}}
    try:
        plain_resources = beside.pop("resources", [])
        listed = decode(tuple[Resource, ...], plain_resources, "resources", lenient=later)
        resources = {resource.address: resource for resource in listed}
        if len(resources) != len(listed):
            raise MalformedError("resources: the same address twice")  # noqa: TRY301 (one exit)
        known = {name: beside.pop(name) for name in ("history", "hosts") if name in beside}
        past = decode(KnownPast, known, "live", lenient=later)
        gateways = beside.pop(_GATEWAYS, {})
        if not isinstance(gateways, dict):
            raise MalformedError(f"{_GATEWAYS}: expected an object")  # noqa: TRY301 (one exit)
        if gateways:
            beside["faults"] = {gateway_address(name): fault for name, fault in gateways.items()}
        state = decode(State, {"resources": {}, **beside}, "live", lenient=later)
        if strange := [name for name in _names_beside(state) if not is_name(name)]:
            raise MalformedError(f"live: {strange[0]!r:.60} is no name")  # noqa: TRY301 (one exit)
        _require_servers(listed, state.unknown_servers)
    except MalformedError as error:
        detail = f"At {error}. A plan made from it would be made from a guess."
        hint = "compare with the fields that fleetctl writes"
        raise FleetError.of(
            "FC5006", "Live-state file has a wrong field", detail, hint=hint, command=MAKE
        ) from None
    for resource in listed:
        if isinstance(resource, Server) and format_of(resource.digest) > max(FORMATS):
            raise newer_server(resource.name, format_of(resource.digest), max(FORMATS))
    return replace(state, resources=dict(sorted(resources.items()))), past


def _names_beside(state: State) -> Iterator[str]:
    """Yield the names of servers, hosts, gateways and keys beside the resources of a state."""
    for field in _BESIDE:
        content = getattr(state, field)
        if field not in _BY_ADDRESS and isinstance(content, Mapping):
            yield from content
    for address in {*state.faults, *state.resolvable, *state.lost} - {TABLE, LEDGER}:
        kind, name = address_parts(address)
        yield from name.split("/") if kind == "key" else [name.rpartition("@")[2]]


def _require_servers(listed: Sequence[Resource], unknown: Container[str]) -> None:
    """Refuse adapters on servers that the file does not have, and servers that no device holds.

    Raises:
        MalformedError: with the first of them.
    """
    servers = {resource.name for resource in listed if isinstance(resource, Server)}
    placed = [(r.host, device) for r in listed if isinstance(r, Server) for device in r.devices]
    for (host, device), count in Counter(placed).items():
        if count > _MOST_ON_A_DEVICE:
            raise MalformedError(f"resources: {count} servers on device `{device}` of `{host}`")
    for number, resource in enumerate(listed):
        if not isinstance(resource, LoadedAdapter) or resource.server in unknown:
            continue
        if resource.server not in servers:
            where, what = f"resources[{number}].server", f"no server `{resource.server}` is listed"
            raise MalformedError(f"{where}: {what}, nor among `unknown_servers`")
