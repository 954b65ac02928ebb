"""Keeps servers of a host as units of systemd there, with the records of launches.

Units of the user manager; or instances of a template that root owns, each of which runs a script.
"""

from typing import Final, Literal

from fleet.errors import EngineRejectedError
from fleet.hosts import RUN, TEMPLATE
from fleet.quadlet_unit import container_name
from fleet.vllm import instance_name, unit_name
from runtime.engines.launch_records import LaunchRecord
from runtime.engines.ssh.connection import SCRIPT_S, SshConnection
from runtime.engines.ssh.framing import ScriptResult
from runtime.engines.ssh.server_units import ServerUnit, parse_units, sealed

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
        raise started_elsewhere(ssh, record.name, f"`{name}` was written since this run looked")
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
