"""Keeps servers of a host as units of the user manager there, with the records of launches."""

import hashlib
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal

from pydantic import ValidationError

from fleet.errors import EngineRejectedError, NewerFormatError
from fleet.quadlet_unit import container_name
from fleet.vllm import unit_name
from runtime.engines.launch_records import LaunchRecord, parse_record
from runtime.engines.recognition import FLEET
from runtime.engines.ssh.connection import SCRIPT_S, SshConnection
from runtime.engines.ssh.framing import ScriptResult

SECTION: Final = "[X-Fleetctl]\n"
"""Section that systemd reads past: a digest of the unit before it, and the record of the launch."""
_FLEET: Final = re.compile(rf'^Environment="?{FLEET}=([^"\n]*)', re.MULTILINE)
_GPUS: Final = re.compile(
    r'^(?:Environment="?CUDA_VISIBLE_DEVICES|AddDevice=nvidia[.]com/gpu)=([0-9,]*)', re.MULTILINE
)
_LAUNCH: Final = re.compile(r'.*"launch":"([^"]*)"')
_CHANGED: Final = 10
_STOP_S: Final = 60.0
"""Upper bound of a stop; above `TimeoutStopSec` of the units. Seconds."""
_HOME: Final = """\
export XDG_RUNTIME_DIR=/run/user/$(id -u)
mkdir -p ~/.config/systemd/user && cd ~/.config/systemd/user || exit
"""
"""Begins a script in the folder of units."""
_QUADLETS: Final = "../../containers/systemd"
"""Folder of Quadlet files, from that of units."""
LIST: Final = (
    _HOME
    + f"""\
files=$(ls . {_QUADLETS} 2>/dev/null | sed 's/[.]container$/.service/' |
  grep '^fleetctl-.*[.]service$')
systemctl --user show --property=Id,ActiveState,SubState,MainPID,InvocationID,NRestarts\\
,UnitFileState,NeedDaemonReload,DropInPaths -- $files 'fleetctl-*.service' || exit
for file in $files; do
  quadlet={_QUADLETS}/${{file%.service}}.container
  if test -f "$file"; then set -- "$file"; else set -- "$quadlet".d/*.conf "$quadlet"; fi
  echo; echo "File=$file"; cat "$@" 2>/dev/null | sed 's/^/ /'
done
"""
)
"""Lists the units, for `parse_units`."""
_WRITE: Final = (
    _HOME
    + """\
exec 9<. && flock 9 || exit
if test -f {unit}; then set -- {unit}; else set -- {quadlet}; fi
now=$(sed -n '/^Record=/s/.*"launch":"\\([^"]*\\)".*/\\1/p' "$1" 2>/dev/null)
[ "$now" = "{before}" ] || exit {changed}
{files}new=$(mktemp -d) && trap 'rm -r "$new"' EXIT || exit
cat >"$new/{unit}" <<'END_OF_UNIT'
{text}END_OF_UNIT
{install}"""
)
_INSTALL: Final = """\
systemd-analyze --user verify "$new/{unit}" 2>"$new/faults"; code=$?
if [ $code != 0 ] || grep -qF "{unit}" "$new/faults"; then cat "$new/faults" >&2; exit 9; fi
mv "$new/{unit}" {unit} && sync {unit} . && rm -rf {quadlet} {quadlet}.d &&
systemctl --user daemon-reload && systemctl --user enable --quiet {unit}
"""
_REMOVE: Final = (
    _HOME
    + """\
systemctl --user stop --quiet {unit} 2>/dev/null
systemctl --user disable --quiet {unit} 2>/dev/null
rm -rf {unit} {unit}.d {quadlet} {quadlet}.d && systemctl --user daemon-reload &&
{{ systemctl --user reset-failed {unit} 2>/dev/null || :; }}
"""
)


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
    fleet: str = ""
    """Fleet that the server serves; empty: the unit names none."""
    launch: str = ""
    """Launch in the record, which may be of a later release; empty: none."""
    gpus: frozenset[str] = frozenset()
    """Indices of the GPUs that the server sees."""

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


async def list_units(ssh: SshConnection) -> dict[str, ServerUnit]:
    """Return the units of fleetctl's servers on a host by server, running or not.

    Raises:
        EngineError: FC4100, the host has no user manager; or as `SshConnection.run`.
    """
    return parse_units(done(ssh, "cannot list its units", await ssh.run(LIST)).stdout)


async def write_unit(
    ssh: SshConnection,
    record: LaunchRecord,
    unit: str,
    before: str = "",
    files: str = "",
    install: str = _INSTALL,
) -> None:
    """Write a server's unit, which systemd checks, reads and enables; start nothing.

    `before` is the launch in the unit that is there; empty: there is none. `files` is the script
    that writes the files of the launch, unless the unit is of another launch by now. `install` is
    the script that checks the unit and hands it to systemd.

    Raises:
        EngineError: FC4100, systemd does not take the unit; FC4102, the unit is of another launch
            by now; or as `SshConnection.run`.
    """
    name = unit_name(record.name)
    names = {"unit": name, "quadlet": f"{_QUADLETS}/{container_name(name)}"}
    script = _WRITE.format(
        text=sealed(unit, record), before=before, changed=_CHANGED, files=files,
        install=install.format(**names), **names,
    )  # fmt: skip
    ended = await ssh.run(script)
    if ended.code == _CHANGED:
        raise started_elsewhere(ssh, record.name, f"`{name}` was written since this run looked")
    done(ssh, f"does not take the unit of `{record.name}`", ended)


async def remove_unit(ssh: SshConnection, server: str) -> None:
    """Stop a server and delete its unit; an absent unit is fine."""
    name = unit_name(server)
    script = _REMOVE.format(unit=name, quadlet=f"{_QUADLETS}/{container_name(name)}")
    ended = await ssh.run(script, timeout_s=_STOP_S)
    done(ssh, f"cannot remove the unit of `{server}`", ended)


async def control_unit(
    ssh: SshConnection, verb: Literal["start", "stop", "restart"], server: str
) -> None:
    """Start, stop or restart a server; a start returns once the program runs, before it answers."""
    script = f"{_HOME}systemctl --user {verb} {unit_name(server)}"
    ended = await ssh.run(script, timeout_s=SCRIPT_S if verb == "start" else _STOP_S)
    done(ssh, f"cannot {verb} `{server}`", ended)


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
    return ServerUnit(
        name=name.removeprefix("fleetctl-").removesuffix(".service"),
        state=pairs.get("ActiveState", ""),
        pid=int(pairs.get("MainPID") or 0),
        invocation=pairs.get("InvocationID", ""),
        restarts=int(pairs.get("NRestarts") or 0),
        is_enabled=pairs.get("UnitFileState") in ("enabled", "generated"),
        is_edited=fields.get("Digest") != _digest(unit, written)
        or pairs.get("NeedDaemonReload") == "yes"
        or bool(pairs.get("DropInPaths")),
        record=record if record and unit_name(record.name) == name else None,
        fleet=found[1] if (found := _FLEET.search(unit)) else "",
        launch=found[1] if (found := _LAUNCH.match(written)) else "",
        gpus=frozenset(gpu for found in _GPUS.findall(unit) for gpu in found.split(",")),
    )


def _digest(unit: str, record: str) -> str:
    return hashlib.sha256(f"{unit}\n{record}".encode()).hexdigest()[:16]


def started_elsewhere(
    ssh: SshConnection, server: str, why: str, command: str = "fleetctl plan"
) -> EngineRejectedError:
    """Return the error of a start for which another run has left no place."""
    return EngineRejectedError.of(
        "FC4102",
        "Another run started a server",
        f"`{server}` was not started on `{ssh.address}`: {why}. That one was left as it is.",
        hint="Another checkout or a person started it. Plan again once it answers, or end it if "
        "nobody needs it.",
        command=command,
    )


def done(ssh: SshConnection, what: str, ended: ScriptResult) -> ScriptResult:
    """Return the result of a script about units; raises FC4100 if the script failed."""
    if ended.code == 0:
        return ended
    told = [line.strip() for line in ended.stderr.splitlines() if line.strip()]
    lacks_manager = any("connect to" in line for line in told)
    if any("systemctl: " in line and "not found" in line for line in told):
        told = ["there is no systemd, which `supervisor: systemd` needs"]
    raise EngineRejectedError.of(
        "FC4100",
        "Host refuses a unit",
        f"`{ssh.address}` {what}: {' '.join(told[-3:]).rstrip('.') or f'status {ended.code}'}.",
        hint="Units need a user manager that runs without a login. As root on the host:"
        if lacks_manager
        else "The host's journal says more: `journalctl --user -e` there.",
        command="loginctl enable-linger USER" if lacks_manager else "",
    )
