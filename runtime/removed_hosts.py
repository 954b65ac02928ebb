"""Remembers the hosts of a fleet, and drains hosts that leave the declarations.

Servers are known by their host alone: without it they would run on, and nobody would know.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from fleet.decoding import decode
from fleet.encoding import decode_json, plain
from fleet.hardware import HostSpec
from fleet.spec import FleetSpec
from runtime.files import make_private, read_plain, replace_file

HOSTS_FILE: Final = "hosts.json"
"""File of the state folder."""


def remember_hosts(state_dir: Path, hosts: Mapping[str, HostSpec]) -> None:
    """Save the hosts on which fleetctl starts servers, as they are declared; others are dropped."""
    ours = {name: host for name, host in hosts.items() if host.engine != "attach"}
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
    """Return a fleet with known hosts that left its declarations, their devices draining."""
    removed = {
        name: replace(host, devices=tuple(replace(d, state="draining") for d in host.devices))
        for name, host in known.items()
        if name not in fleet.hosts
    }
    hosts = dict(sorted({**removed, **fleet.hosts}.items()))
    return replace(fleet, hosts=hosts, removed=frozenset(removed)) if removed else fleet
