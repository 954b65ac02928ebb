"""Keeps servers of a host as units of systemd there, with records of launches; reads their logs."""

import hashlib
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from getpass import getuser
from pathlib import Path
from typing import Final, Literal

from pydantic import ValidationError

from fleet.errors import EngineError, EngineRejectedError, NewerFormatError
from fleet.hardware import HostSpec
from fleet.hosts import RUN, TEMPLATE, container_name, instance_name, unit_name
from runtime.engines.launch_records import LaunchRecord, parse_record
from runtime.engines.launching import started_elsewhere
from runtime.engines.recognition import FLEET, FLEET_ID, NO_FLEET, FleetMark
from runtime.engines.remote.connection import SCRIPT_S, ScriptResult, SshConnection
from runtime.files import read_text

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
_RUN: Final = f"../../../{RUN}"
"""Script of an instance, from the folder of units."""
_SHOWN: Final = (
    "Id,ActiveState,SubState,MainPID,InvocationID,NRestarts,UnitFileState,NeedDaemonReload"
)
LIST: Final = (
    _HOME
    + f"""\
files=$(ls . {_QUADLETS} 2>/dev/null | sed 's/[.]container$/.service/' |
  grep '^fleetctl-.*[.]service$')
systemctl --user show --property={_SHOWN},DropInPaths -- $files 'fleetctl-*.service' ||
  test -z "$files" -a -e {TEMPLATE} || exit
for file in $files; do
  quadlet={_QUADLETS}/${{file%.service}}.container
  if test -f "$file"; then set -- "$file"; else set -- "$quadlet".d/*.conf "$quadlet"; fi
  echo; echo "File=$file"; cat "$@" 2>/dev/null | sed 's/^/ /'
done
set -- {_RUN.format("*")}; test -e "$1" || shift
if test -e {TEMPLATE} -o $# != 0; then
  units=$(for file; do server=${{file%/run}}; echo {instance_name("${server##*/}")}; done)
  echo; systemctl show --property={_SHOWN} -- $units '{instance_name("*")}' || exit
  for file; do
    server=${{file%/run}}; echo; echo "File={instance_name("${server##*/}")}"; sed 's/^/ /' "$file"
  done
fi
"""
)
"""Lists the units, for `parse_units`."""
_WRITE: Final = (
    _HOME
    + """\
exec 9<. && flock 9 || exit
for file in {unit} {quadlet} {run}; do test -f "$file" && break; done
now=$(sed -n '/^Record=/s/.*"launch":"\\([^"]*\\)".*/\\1/p' "$file" 2>/dev/null)
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
INSTALL_SCRIPT: Final = f"""\
test -e {TEMPLATE} || {{{{ echo "no {TEMPLATE}" >&2; exit 9; }}}}
mv "$new/{{unit}}" {{run}} && sync {{run}} "$(dirname {{run}})"
"""
"""Script for `write_unit`: the instance of root's template runs the file from its next start."""
_REMOVE: Final = (
    _HOME
    + """\
if test -e {run}; then
  systemctl --no-ask-password stop --quiet {instance} || exit
  rm -f {run}; systemctl --no-ask-password reset-failed {instance} 2>/dev/null
  test -e {unit} || test -e {quadlet} || exit 0
fi
systemctl --user stop --quiet {unit} 2>/dev/null
systemctl --user disable --quiet {unit} 2>/dev/null
rm -rf {unit} {unit}.d {quadlet} {quadlet}.d && systemctl --user daemon-reload &&
{{ systemctl --user reset-failed {unit} 2>/dev/null || :; }}
"""
)


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
    name, names = unit_name(record.name), _names(record.name)
    script = _WRITE.format(
        text=sealed(unit, record), before=before, changed=_CHANGED, files=files,
        install=install.format(**names), **names,
    )  # fmt: skip
    ended = await ssh.run(script)
    if ended.code == _CHANGED:
        raise started_elsewhere(
            record.name, ssh.address, f"`{name}` was written since this run looked"
        )
    done(ssh, f"does not take the unit of `{record.name}`", ended)


async def remove_unit(ssh: SshConnection, server: str) -> None:
    """Stop a server and delete its unit; an absent unit is fine."""
    ended = await ssh.run(_REMOVE.format(**_names(server)), timeout_s=_STOP_S)
    done(ssh, f"cannot remove the unit of `{server}`", ended)


async def control_unit(
    ssh: SshConnection,
    verb: Literal["start", "stop", "restart"],
    server: str,
    *,
    is_system: bool = False,
) -> None:
    """Start, stop or restart a server; a start returns once the program runs, before it answers."""
    script = f"{_HOME}systemctl --user {verb} {unit_name(server)}"
    if is_system:
        script = f"systemctl --no-ask-password {verb} {instance_name(server)}"
    ended = await ssh.run(script, timeout_s=SCRIPT_S if verb == "start" else _STOP_S)
    done(ssh, f"cannot {verb} `{server}`", ended)


def _names(server: str) -> dict[str, str]:
    unit = unit_name(server)
    quadlet, run = f"{_QUADLETS}/{container_name(unit)}", _RUN.format(server)
    return {"unit": unit, "quadlet": quadlet, "run": run, "instance": instance_name(server)}


def done(ssh: SshConnection, what: str, ended: ScriptResult) -> ScriptResult:
    """Return the result of a script about units; raises FC4100 if the script failed."""
    if ended.code == 0:
        return ended
    told = [line.strip() for line in ended.stderr.splitlines() if line.strip()]
    lacks_manager = any("connect to" in line for line in told)
    if any("systemctl: " in line and "not found" in line for line in told):
        told = ["there is no systemd, which `supervisor: systemd` needs"]
    hint, command = "The host's journal says more: `journalctl --user -e` there.", ""
    if lacks_manager:
        hint = "Units need a user manager that runs without a login. As root on the host:"
        command = "loginctl enable-linger USER"
    elif any("authentication" in line or "fleetctl-engine@" in line for line in told):
        hint = "Root has to allow the servers of the host. What root runs there is printed by:"
        command = "fleetctl host prepare HOST --dry-run"
    raise EngineRejectedError.of(
        "FC4100",
        "Host refuses a unit",
        f"`{ssh.address}` {what}: {' '.join(told[-3:]).rstrip('.') or f'status {ended.code}'}.",
        hint=hint,
        command=command,
    )


PLUGIN: Final = ".local/share/fleetctl/resolver"
"""Folder of the plug-in of vLLM for containers on a host, relative to the user's home."""
INSTALL_QUADLET: Final = """\
mkdir "$new/quadlets" && mv "$new/{unit}" "$new/quadlets/$(basename {quadlet})" || exit
QUADLET_UNIT_DIRS=$new/quadlets /usr/lib/systemd/user-generators/podman-user-generator \\
  -dryrun -user >"$new/made" 2>"$new/faults" || {{ cat "$new/faults" >&2; exit 9; }}
systemctl --user disable --quiet {unit} 2>/dev/null
rm -rf {unit} {unit}.d && mkdir -p "$(dirname {quadlet})" || exit
mv "$new/quadlets/"* {quadlet} && sync {quadlet} && systemctl --user daemon-reload
"""
"""Script for `write_unit`: podman checks the file and makes the unit of it."""


_MOST: Final = 64 << 20
"""Upper bound of a log that is read whole. Bytes."""
_READ_LOG: Final = "journalctl --user --quiet --no-pager --output=cat --lines={lines}"
_LOG_OF_LAUNCH: Final = f"""\
id=$(journalctl --user --quiet --reverse {{unit}} --output=export \\
  --output-fields=_SYSTEMD_INVOCATION_ID,USER_INVOCATION_ID |
  sed -n -e s/^_SYSTEMD_INVOCATION_ID=//p -e s/^USER_INVOCATION_ID=//p |
  awk '!seen[$0]++' | sed -n '{{back}}{{{{p;q}}}}')
test -z "$id" || exec {_READ_LOG} _SYSTEMD_INVOCATION_ID=$id + USER_INVOCATION_ID=$id
"""
"""The journal names the launch of systemd's own lines otherwise than that of the program's."""


async def last_lines(ssh: SshConnection, server: str, lines: int) -> str:
    """Return the last lines of a server's log, over all its launches; may be empty.

    Raises:
        EngineError: as `SshConnection.run`.
    """
    return (await ssh.run(f"{_READ_LOG.format(lines=lines)} {_lines_of(server)}")).stdout


async def launch_log(
    ssh: SshConnection, server: str, lines: int | None, *, previous: bool = False
) -> str:
    """Return the log of a server since its last start by systemd, or of the start before.

    Raises:
        EngineError: FC4021, there is none; or as `SshConnection.run`.
    """
    script = _LOG_OF_LAUNCH.format(
        unit=_lines_of(server), back=2 if previous else 1, lines=lines or "all"
    )
    text = (await ssh.run(script, most=_MOST)).stdout
    if not text:
        raise EngineError.of(
            "FC4021",
            "No such server was started here",
            f"The journal of `{ssh.address}` has no such log of `{server}`.",
            command="fleetctl status",
        )
    return text


async def follow_command(ssh: SshConnection, server: str, lines: int | None) -> tuple[str, ...]:
    """Return the command line that prints a server's last lines and then new ones; connects.

    Raises:
        EngineError: as `SshConnection.run`.
    """
    script = f"exec {_READ_LOG.format(lines=lines or 'all')} --follow {_lines_of(server)}"
    return await ssh.command(script)


def _lines_of(server: str) -> str:
    """Return the words for the lines of a server, of either manager of units."""
    unit = unit_name(server)
    return f"_SYSTEMD_USER_UNIT={unit} + USER_UNIT={unit} + _SYSTEMD_UNIT={instance_name(server)}"


_LINGER: Final = Path("/var/lib/systemd/linger")
"""Folder of the users whose units run without a login."""


def has_units(host: HostSpec) -> bool:
    """Say whether servers of a host are units, or may be left from an earlier declaration."""
    if host.engine == "ssh" or host.supervisor:
        return True
    found = unit_file("").parent.glob(unit_name(f"*-{host.name}-*"))
    return host.engine == "local" and any(SECTION in read_text(path) for path in found)


def unit_file(server: str) -> Path:
    """Return the file of a server's unit on this machine."""
    return Path.home() / ".config" / "systemd" / "user" / unit_name(server)


def linger_notes() -> Iterator[str]:
    """Yield a note where units of this user end with its last login."""
    if _LINGER.parent.is_dir() and not (_LINGER / getuser()).exists():
        yield (
            f"Units of {getuser()} end with its last login and do not start with the machine: "
            f"sudo loginctl enable-linger {getuser()}"
        )
