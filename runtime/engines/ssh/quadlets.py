"""Keeps servers of a host that run from an image: Quadlet files, from which podman makes units."""

import posixpath
import shlex
from typing import Final

from fleet.hardware import HostSpec
from fleet.quadlet_unit import container_text, unit_path
from fleet.systemd_unit import SystemdUnit
from fleet.vllm import RESOLVER, server_container
from runtime.engines.launch_records import LaunchRecord
from runtime.engines.ssh.box import SERVERS, BoxView
from runtime.engines.ssh.connection import SshConnection
from runtime.engines.ssh.units import done

PLUGIN: Final = ".local/share/fleetctl/resolver"
"""Folder of the plug-in of vLLM for containers on a host, relative to the user's home."""
_LOOK: Final = f"""\
mkdir -p {{store}} && (cd {{store}} && pwd -P) || exit
test -e {PLUGIN}/{RESOLVER}-*.dist-info/entry_points.txt && echo plug-in || :
"""
INSTALL_QUADLET: Final = """\
mkdir "$new/quadlets" && mv "$new/{unit}" "$new/quadlets/$(basename {quadlet})" || exit
QUADLET_UNIT_DIRS=$new/quadlets /usr/lib/systemd/user-generators/podman-user-generator \\
  -dryrun -user >"$new/made" 2>"$new/faults" || {{ cat "$new/faults" >&2; exit 9; }}
systemctl --user disable --quiet {unit} 2>/dev/null
rm -rf {unit} {unit}.d && mkdir -p "$(dirname {quadlet})" || exit
mv "$new/quadlets/"* {quadlet} && sync {quadlet} && systemctl --user daemon-reload
"""
"""Script for `write_unit`: podman checks the file and makes the unit of it."""


async def look_for_plugin(ssh: SshConnection, host: HostSpec) -> tuple[str, bool]:
    """Return the store's path, free of links, and whether the plug-in for containers is there.

    Raises:
        EngineError: FC4100, the store cannot be made; or as `SshConnection.run`.
    """
    ended = await ssh.run(_LOOK.format(store=shlex.quote(host.store_there)))
    store, _, plugin = done(ssh, "cannot make the store", ended).stdout.partition("\n")
    return store, bool(plugin)


def quadlet_of(record: LaunchRecord, unit: SystemdUnit, box: BoxView, store: str) -> str:
    """Return the Quadlet file of a launch, which reads the store and the server's own files."""
    plugin = f"{box.home}/{PLUGIN}" if "FLEETCTL_ADAPTERS" in unit.environment else ""
    model = unit.arguments[unit.arguments.index("--model") + 1]
    is_elsewhere = posixpath.isabs(model) and not model.startswith(f"{store}/")
    read = [store, f"{box.home}/{SERVERS}/{record.name}", plugin, model if is_elsewhere else ""]
    paths = [unit_path(path) for path in read if path]
    return container_text(*server_container(unit, record.flags.image, paths, plugin))
