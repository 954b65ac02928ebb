"""Starts a server on a host as a unit: checks, the base's files, the unit with its record."""

import asyncio
import posixpath
import shlex
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final
from uuid import uuid4

from fleet.environment import server_key
from fleet.errors import EngineError, EngineRejectedError
from fleet.hardware import HostSpec
from fleet.hosts import (
    SystemdUnit,
    container_text,
    instance_name,
    script_text,
    server_container,
    server_unit,
    unit_name,
    unit_path,
    unit_text,
)
from fleet.resources import Server, ServerFlags
from fleet.vllm import RESOLVER, gpus_of, launch_of, servers_per_device_of
from runtime.engines.adapters_file import FILE
from runtime.engines.launch_records import LaunchRecord
from runtime.engines.launching import (
    LAUNCH_LENGTH,
    ended_early,
    port_taken,
    require_own,
    started_elsewhere,
)
from runtime.engines.observation import base_digest
from runtime.engines.protocol import Direct, Report
from runtime.engines.recognition import UNIT, FleetMark, url_of
from runtime.engines.remote.box import KEY, SERVERS, BoxView, files_of_launch
from runtime.engines.remote.connection import SshConnection
from runtime.engines.remote.copies import SshTransport
from runtime.engines.remote.units import (
    INSTALL_QUADLET,
    INSTALL_SCRIPT,
    PLUGIN,
    ServerUnit,
    control_unit,
    done,
    last_lines,
    list_units,
    remove_unit,
    write_unit,
)
from runtime.engines.store import TransferReport, bring_good, source_of
from runtime.secrets import secret_unreadable
from runtime.state_folder import StoreView, number_of_copy
from runtime.trust import load_trust

_NO_PROGRAM, _PORT_TAKEN, _REFUSED = 8, 11, 12
_CHECK: Final = f"""\
{{test}} || exit {_NO_PROGRAM}
grep -Eq ':{{port:04X}} [0-9A-F]+:0000 0A ' /proc/net/tcp /proc/net/tcp6 && exit {_PORT_TAKEN}
{{rights}}"""
_RIGHTS: Final = f"systemctl --no-ask-password reset-failed {{}} || exit {_REFUSED}\n"
_HAS_RESOLVER: Final = f"ls -d {{prefix}}/lib*/python*/*-packages/{RESOLVER}-*.dist-info"
_LOG_LINES: Final = 40


@dataclass(frozen=True, slots=True)
class BoxLauncher:
    """The way servers are started on a host."""

    host: HostSpec
    ssh: SshConnection
    folder: Path
    """The project, to which bases are relative."""
    fleet: FleetMark
    secret: str | None = field(default="", repr=False)
    """The secret of the keys of servers; empty: they have none, None: it cannot be read."""
    report: Report = lambda *_: None
    direct: Direct | None = None
    """Where the host may fetch versions itself; None: it does not."""

    def require_own(self, unit: ServerUnit | None) -> None:
        """Refuse a unit of another fleet or program; raises FC4101."""
        if unit is not None:
            what = f"`{unit_name(unit.name)}` of `{self.ssh.address}`"
            require_own(what, unit.fleet, self.fleet)

    async def check(self, server: Server, box: BoxView) -> None:
        """Refuse a port that others have, a missing interpreter or image, and missing rights.

        Raises:
            EngineError: FC4011, FC4018, FC4025, FC4100; or as `SshConnection.run`.
        """
        if self.secret is None:
            raise secret_unreadable()
        image, (_, python) = self.host.image, self.interpreter(box)
        test = f"podman image exists {image}" if image else f"test -x {shlex.quote(python)}"
        rights = _RIGHTS.format(instance_name(server.name)) if self.host.has_system_units else ":\n"
        ended = await self.ssh.run(_CHECK.format(test=test, port=server.port, rights=rights))
        if (code := ended.code) == _REFUSED:
            done(self.ssh, f"does not let `{server.name}` be started", ended)
        if code == _PORT_TAKEN:
            ssh = "" if self.ssh.is_here else f"ssh {self.ssh.address} "
            raise port_taken(
                server.name,
                f"port {server.port} of `{self.ssh.address}`",
                command=f"{ssh}ss -Hltnp sport = {server.port}",
            )
        if code:
            lacks = f"no image `{image}`" if image else f"no program `{python}`"
            raise EngineError.of(
                "FC4018",
                "A server cannot be started",
                f"`{self.ssh.address}` has {lacks} for `{server.name}`.",
                hint="A start pulls no image."
                if image
                else "Install vLLM there, or let `python` of the host name an interpreter with it.",
                command="" if self.ssh.is_here else f"fleetctl host prepare {self.host.name}",
            )

    async def launch(self, server: Server, flags: ServerFlags, box: BoxView) -> LaunchRecord:
        """Bring the base, write the unit and start the server; return before the server answers.

        Raises:
            EngineError: as `SshTransport.bring`, `write_unit` and `control_unit`; after the latter
                no unit is left.
        """
        model, files = await self._bring_base(flags)
        units = await list_units(self.ssh)
        self._require_free(server, flags, units)
        (_, python), mark = self.interpreter(box), uuid4().hex
        if self.host.image:
            store, plugged = await look_for_plugin(self.ssh, self.host)
        else:
            prefix = shlex.quote(posixpath.dirname(posixpath.dirname(python)))
            plugged = not (await self.ssh.run(_HAS_RESOLVER.format(prefix=prefix))).code
        launch = launch_of(
            server,
            self.host,
            python=python,
            model=model,
            launch=mark[:LAUNCH_LENGTH],
            adapters=f"{box.home}/{SERVERS}/{server.name}/{FILE}" if plugged else "",
            allowed=load_trust().code.get(self.host.name, ()),
        )
        assert launch is not None, "hosts of engine ssh start their servers"
        record = LaunchRecord.of(server, flags, url_of(self.host.reached_at, server.port), mark)
        record = record.model_copy(update={"arguments": launch.arguments, "base_files": files})
        named = {**launch.environment, **self.fleet.variables, UNIT: unit_name(server.name)}
        if self.secret is None:
            raise secret_unreadable()
        key = server_key(self.secret, server.name, launch.launch)
        is_system = self.host.has_system_units
        home = box.home if is_system else "%h"
        key_file = f"{home}/{SERVERS}/{server.name}/{KEY}" if key else ""
        folder = str(self.folder) if self.ssh.is_here else "~"
        unit = server_unit(replace(launch, environment=named), folder, key_file)
        there = box.units.get(server.name)
        before = there.launch if there else ""
        files_there = files_of_launch(server.name, key)
        if self.host.image:
            quadlet = quadlet_of(record, unit, box, store)
            await write_unit(self.ssh, record, quadlet, before, files_there, INSTALL_QUADLET)
        elif is_system:
            script = script_text(unit)
            await write_unit(self.ssh, record, script, before, files_there, INSTALL_SCRIPT)
        else:
            await write_unit(self.ssh, record, unit_text(unit), before, files_there)
        try:
            await control_unit(self.ssh, "restart", server.name, is_system=is_system)
        except EngineRejectedError:
            await self.take_back(record)
            raise
        return record

    async def take_back(self, record: LaunchRecord) -> None:
        """Remove the unit of a new launch, which systemd would start for ever."""
        with suppress(EngineError):  # the error before says more
            unit = (await list_units(self.ssh)).get(record.name)
            if unit is not None and unit.launch == record.launch:
                await remove_unit(self.ssh, record.name)

    def _require_free(
        self, server: Server, flags: ServerFlags, units: Mapping[str, ServerUnit]
    ) -> None:
        """Refuse GPUs beside a server that does not share them, or that is not of this fleet.

        Raises:
            EngineRejectedError: FC4102.
        """
        gpus = {*map(str, gpus_of(server, self.host))}
        for unit in units.values():
            if unit.name == server.name or not unit.runs or gpus.isdisjoint(unit.gpus):
                continue
            shares = [_part(flags), _part(unit.record.flags) if unit.record else 1]
            if self.fleet.owns(unit.fleet) and max(shares) < 1 and sum(shares) <= 1:
                continue
            ends = f"ssh {self.ssh.address} systemctl --user disable --now {unit_name(unit.name)}"
            raise started_elsewhere(
                server.name,
                self.ssh.address,
                f"`{unit_name(unit.name)}` of {unit.fleet} runs on GPU "
                f"{', '.join(sorted(gpus & unit.gpus))}",
                f"fleetctl server stop {unit.name}" if self.fleet.owns(unit.fleet) else ends,
            )

    async def ended(self, server: str) -> EngineError:
        """Return the error of a server that ended during its start, with the end of its log."""
        lines = await last_lines(self.ssh, server, _LOG_LINES)
        prepare = {} if self.ssh.is_here else {"install": f"fleetctl host prepare {self.host.name}"}
        return ended_early(server, lines, "the host's journal", self.ssh.address, **prepare)

    async def bring_adapter(self, folder: Path, box: BoxView, copies: StoreView) -> tuple[str, str]:
        """Return the path of an adapter there, and its digest; empty: no copy, or none here.

        Raises:
            EngineError: as `bring_good`.
        """
        if self.ssh.is_here:
            return str(folder), copies.digest(str(folder)) or ""
        if not await asyncio.to_thread(folder.is_dir):  # the server's own answer says so
            return posixpath.join(box.home, self.host.store_there, folder.name), ""
        files = await source_of(folder)
        number = number_of_copy(folder.name, files.digest) or 1
        told = TransferReport(self.host.name, files, self.report)
        tell = told.begun_anew
        way = SshTransport(self.ssh, self.host.store_there, told, self.direct, tell)
        return await bring_good(way, files, number, tell), files.digest

    async def _bring_base(self, flags: ServerFlags) -> tuple[str, str]:
        """Return the path of the base there, and the digest of its files; empty: no folder here.

        On this machine it is read where it is.
        """
        here = self.folder / flags.model
        if not here.is_dir():
            return "", ""
        if self.ssh.is_here:
            return str(here), await asyncio.to_thread(base_digest, here)
        source = await source_of(here, links=True)
        told = TransferReport(self.host.name, source, self.report)
        path = await SshTransport(self.ssh, self.host.store_there, told).bring(source)
        return path, await asyncio.to_thread(base_digest, here)

    def interpreter(self, box: BoxView) -> tuple[str, str]:
        """Return the interpreter of servers, as declared and in full; with an image: none."""
        if self.host.image:
            return "", "python3"
        return self.host.python_there, posixpath.join(box.home, self.host.python_there)


def _part(flags: ServerFlags) -> float:
    """Return the part of a GPU's memory that a server takes; 0: it takes declared bytes."""
    return 0 if flags.memory_share is None else 1 / servers_per_device_of(flags)


_LOOK: Final = f"""\
mkdir -p {{store}} && (cd {{store}} && pwd -P) || exit
test -e {PLUGIN}/{RESOLVER}-*.dist-info/entry_points.txt && echo plug-in || :
"""


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
