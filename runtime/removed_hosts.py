"""Remembers the hosts of a fleet, and drains hosts that leave the declarations.

Servers are known by their host alone: without it they would run on, and nobody would know.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter

from fleet.hardware import HostSpec
from fleet.spec import FleetSpec
from runtime.files import make_private, read_plain, replace_file

HOSTS_FILE: Final = "hosts.json"
"""File of the state folder."""
_HOSTS: Final = TypeAdapter(dict[str, HostSpec])


def remember_hosts(state_dir: Path, hosts: Mapping[str, HostSpec]) -> None:
    """Save the hosts on which fleetctl starts servers, as they are declared; others are dropped."""
    ours = {name: host for name, host in hosts.items() if host.engine != "attach"}
    path, text = state_dir / HOSTS_FILE, _HOSTS.dump_json(ours, indent=2) + b"\n"
    if not path.is_file() or read_plain(path) != text:
        make_private(state_dir)
        replace_file(path, text)


def with_removed(fleet: FleetSpec, state_dir: Path) -> FleetSpec:
    """Return a fleet with the hosts that left its declarations, all their devices draining."""
    known: dict[str, HostSpec] = {}
    with suppress(OSError, ValueError):  # without a file, or of another release: none is known
        known = _HOSTS.validate_json(read_plain(state_dir / HOSTS_FILE))
    removed = {
        name: replace(host, devices=tuple(replace(d, state="draining") for d in host.devices))
        for name, host in known.items()
        if name not in fleet.hosts
    }
    hosts = dict(sorted({**removed, **fleet.hosts}.items()))
    return replace(fleet, hosts=hosts, removed=frozenset(removed)) if removed else fleet
