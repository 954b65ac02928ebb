"""Reads the units of a host's servers from a script's list, with the records of launches."""

import hashlib
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError

from fleet.errors import NewerFormatError
from runtime.engines.launch_records import LaunchRecord, parse_record
from runtime.engines.recognition import FLEET, FLEET_ID, NO_FLEET, FleetMark

SECTION: Final = "[X-Fleetctl]\n"
"""Section that systemd reads past: a digest of the unit before it, and the record of the launch."""
_SET: Final = '(?:Environment="?|export )'
_FLEET: Final = re.compile(rf'^{_SET}({FLEET}|{FLEET_ID})=([^"\n]*)', re.MULTILINE)
_GPUS: Final = re.compile(
    rf"^(?:{_SET}CUDA_VISIBLE_DEVICES|AddDevice=nvidia[.]com/gpu)=([0-9,]*)", re.MULTILINE
)
_LAUNCH: Final = re.compile(r'.*"launch":"([^"]*)"')


@dataclass(frozen=True, slots=True)
class ServerUnit:
    """The unit of a server, by systemd and by the unit's file."""

    name: str
    """Name of the server."""
    state: str
    """`active` also while vLLM still loads its base; `activating`: waits for its next start."""
    pid: int
    """Main process; 0: none."""
    invocation: str
    """Changes with every start, also with a start by systemd: loaded adapters are gone then."""
    restarts: int
    is_enabled: bool
    """Whether the server starts with the machine."""
    is_edited: bool
    """Whether the unit was changed by hand, or systemd has read another text."""
    record: LaunchRecord | None
    """None: the unit has no record that can be read; another program wrote it."""
    fleet: FleetMark = NO_FLEET
    """Fleet that the server serves; empty: the unit names none."""
    launch: str = ""
    """Launch in the record, which may be of a later release; empty: none."""
    gpus: frozenset[str] = frozenset()
    """Indices of the GPUs that the server sees."""
    is_system: bool = False
    """Whether the unit is an instance of the template that root owns."""

    @property
    def runs(self) -> bool:
        """Whether the server runs, or waits for its next start by systemd."""
        return self.state not in ("", "inactive", "failed", "deactivating")


def has_ended(first: ServerUnit, before: ServerUnit, now: ServerUnit) -> bool:
    """Say whether a server ended between looks at its unit.

    A server that waited for its next start at the first look has had the end before: its counter of
    restarts grows once more. A server that ends at once is hardly ever seen `active`.
    """
    was_up = before.state == "active"
    is_another = was_up and (now.state, now.invocation) != ("active", before.invocation)
    return is_another or not now.runs or now.restarts > first.restarts + 1


def sealed(unit: str, record: LaunchRecord) -> str:
    """Return a unit with the record of its launch, and a digest that shows changes by hand."""
    text = record.model_dump_json(exclude={"pid", "process_start"})
    return f"{unit}\n{SECTION}Digest={_digest(unit, text)}\nRecord={text}\n"


def parse_units(listed: str) -> dict[str, ServerUnit]:
    """Return the units in the output of the listing script."""
    shown: dict[str, dict[str, str]] = {}
    texts: dict[str, str] = {}
    for block in filter(None, (block.strip("\n") for block in listed.split("\n\n"))):
        first, *rest = block.split("\n")
        key, _, value = first.partition("=")
        if key == "File":
            texts[value] = "".join(f"{line[1:]}\n" for line in rest)
        else:
            pairs = dict(line.partition("=")[::2] for line in (first, *rest))
            shown[pairs.get("Id", "")] = pairs
    units = (_parsed(name, pairs, texts.get(name, "")) for name, pairs in sorted(shown.items()))
    return {unit.name: unit for unit in units if unit.name}


def _parsed(name: str, pairs: dict[str, str], text: str) -> ServerUnit:
    unit, _, seal = text.partition(f"\n{SECTION}")
    fields = dict(line.partition("=")[::2] for line in seal.splitlines())
    written, record = fields.get("Record", ""), None
    with suppress(ValidationError, NewerFormatError):
        record = parse_record(written, name)
    is_system = "@" in name
    server = name.removeprefix("fleetctl-").removeprefix("engine@").removesuffix(".service")
    return ServerUnit(
        name=server,
        state=pairs.get("ActiveState", ""),
        pid=int(pairs.get("MainPID") or 0),
        invocation=pairs.get("InvocationID", ""),
        restarts=int(pairs.get("NRestarts") or 0),
        is_enabled=pairs.get("UnitFileState") in ("enabled", "generated"),
        is_edited=fields.get("Digest") != _digest(unit, written)
        or pairs.get("NeedDaemonReload") == "yes"
        or bool(pairs.get("DropInPaths")),
        record=record if record and record.name == server else None,
        fleet=FleetMark.among(dict(_FLEET.findall(unit))),
        launch=found[1] if (found := _LAUNCH.match(written)) else "",
        gpus=frozenset(gpu for found in _GPUS.findall(unit) for gpu in found.split(",")),
        is_system=is_system,
    )


def _digest(unit: str, record: str) -> str:
    return hashlib.sha256(f"{unit}\n{record}".encode()).hexdigest()[:16]
