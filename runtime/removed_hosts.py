"""Remembers the hosts of a fleet, and drains hosts that leave the declarations.

Servers are known by their host alone: without it they would run on, and nobody would know.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from fleet.codec import decode, decode_json, plain
from fleet.hardware import HostSpec
from fleet.spec import FleetSpec
from runtime.files import make_private, read_plain, replace_file

HOSTS_FILE: Final = "hosts.json"
"""File of the state folder."""


def remember_hosts(state_dir: Path, hosts: Mapping[str, HostSpec]) -> None:
    """Save the hosts on which fleetctl starts servers, with their left devices; drop others."""
    ours = {
        name: replace(host, devices=(*host.devices, *host.left), left=())
        for name, host in hosts.items()
        if host.engine != "attach"
    }
    path, text = state_dir / HOSTS_FILE, json.dumps(plain(ours), indent=2).encode() + b"\n"
    if not path.is_file() or read_plain(path) != text:
        make_private(state_dir)
        replace_file(path, text)


def known_hosts(state_dir: Path) -> dict[str, HostSpec]:
    """Return the hosts on which fleetctl has started servers, as they were last declared."""
    # Without a file, or with that of another release, none is known.
    with suppress(OSError, ValueError, AttributeError):
        document = decode_json(read_plain(state_dir / HOSTS_FILE))
        return {name: decode(HostSpec, host, name, lenient=True) for name, host in document.items()}
    return {}


def with_removed(fleet: FleetSpec, known: Mapping[str, HostSpec]) -> FleetSpec:
    """Return a fleet with the known hosts and devices that left its declarations.

    All devices of such a host drain. A device alone keeps its price: its server stops.
    """
    removed = {name: host.drained() for name, host in known.items() if name not in fleet.hosts}
    hosts = {**removed, **{name: _with_left(host, known) for name, host in fleet.hosts.items()}}
    return replace(fleet, hosts=dict(sorted(hosts.items())), removed=frozenset(removed))


def _with_left(host: HostSpec, known: Mapping[str, HostSpec]) -> HostSpec:
    """Return a declared host with the known devices that left its declaration."""
    declared = {device.name for device in host.devices}
    before = known[host.name].devices if host.name in known else ()
    left = tuple(device for device in before if device.name not in declared)
    return replace(host, left=left) if left else host
