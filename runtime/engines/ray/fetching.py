"""Lets a node of a cluster fetch a version from its source into the shared folder."""

import asyncio
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fleet.errors import EngineError
from fleet.hardware import HostSpec
from runtime.engines.copy_scripts import (
    check_limit_s,
    check_script,
    fault_of,
    fetch_limit_s,
    fetch_script,
    finish_script,
    not_fetched,
)
from runtime.engines.protocol import Direct, DirectFile, Report
from runtime.engines.ray.cluster import RayCluster
from runtime.engines.ray.programs import fetch_task
from runtime.engines.ray.shared_folder import PATHS, SharedFolder
from runtime.engines.source_folder import SourceFolder, source_of
from runtime.engines.transfer_report import TransferReport
from runtime.store_paths import name_of_copy, number_of_copy

_SCRIPT_S: Final = 30.0
_JOB_S: Final = 90.0
"""Time that a job may take beyond its script: its own start, and that of a worker on the node."""
_SCRIPT: Final = """\
rm -f "$0"
cd {store} || exit
if test -d {name}; then
({check_copy})
else
mkdir -p {name}.part || exit
({fetch})
({check}{finish})
fi
ended=$?
test -d {name} && rm -f {name}.lock
exit $ended
"""


@dataclass(frozen=True, slots=True)
class NodeFetcher:
    """The way a node of a cluster gets versions from their sources."""

    host: HostSpec
    shared: SharedFolder
    direct: Direct | None
    """Where the node may fetch versions itself; None: they are brought from here."""
    report: Report

    async def bring(self, folder: Path, cluster: RayCluster) -> tuple[Path, str]:
        """Let the node fetch a version unless a good copy is there; return the copy, its digest.

        The node hashes what is there or arrives. What it cannot fetch is brought from here, and the
        reason is told.

        Raises:
            EngineError: as `SharedFolder.bring` and `source_of`.
        """
        if self.direct is None:
            return await asyncio.to_thread(self.shared.bring, folder)
        await asyncio.to_thread(self.shared.require)
        source = await source_of(folder)
        tell = TransferReport(self.host.name, source, self.report).begun_anew
        try:
            first = number_of_copy(folder.name, source.digest) or 1
            copy = await self._by_node(source, first, self.direct, cluster, tell)
            if copy is not None:
                return copy, source.digest
        except EngineError as error:
            tell(f"`{self.host.name}` ran no script ({error.diagnostics[0].detail.rstrip('.')})")
        brought, digest = await asyncio.to_thread(self.shared.bring, folder)
        await asyncio.to_thread(self.shared.drop_part, brought)
        return brought, digest

    async def _by_node(
        self,
        source: SourceFolder,
        first: int,
        direct: Direct,
        cluster: RayCluster,
        tell: Callable[[str], None],
    ) -> Path | None:
        """Return a copy that the node found good or fetched; None: there is none."""
        for number in range(first, first + PATHS):
            copy = self.shared.path / name_of_copy(source.digest, number)
            is_there = copy.is_dir()
            files = () if is_there else await direct(source.digest)
            if not is_there and not files:
                return None
            why = await self._fetched(source, files, copy.name, cluster)
            if not why:
                return copy
            tell(why)
            if not is_there:
                return None
        return None

    async def _fetched(
        self, source: SourceFolder, files: Sequence[DirectFile], name: str, cluster: RayCluster
    ) -> str:
        """Let the node fetch or hash a copy; return the fault of the copy; empty: it is good.

        The lock lets nodes, and a run after a killed one, fetch a copy one after another. It goes
        once the copy has its name, as whoever waits finds the copy then.
        """
        store = self.shared.path
        part = str(store / f"{name}.part")
        text = _SCRIPT.format(
            store=shlex.quote(str(store)),
            name=name,
            check_copy=check_script(source, str(store / name)),
            fetch=fetch_script(files, source, part),
            check=check_script(source, part),
            finish=finish_script(name),
        )
        limit_s = _SCRIPT_S + fetch_limit_s(source) + check_limit_s(source)
        script = await asyncio.to_thread(self.shared.write_script, text)
        lock = self.shared.lock(store / name)
        task = fetch_task(self.host.address, str(script), str(lock), int(limit_s))
        try:
            (ended,) = await cluster.run("fetch", [task], limit_s + _JOB_S)
        finally:
            await asyncio.to_thread(self.shared.drop_script, script)
        if why := str(ended.get("error", "")):
            return f"`{self.host.name}` ran no script ({why.rstrip('.')})"
        code, stdout = int(ended["code"]), str(ended["stdout"])
        if code and not files:
            path = store / name
            return f"the copy at `{path}` of `{self.host.name}` {fault_of(code, stdout)}"
        return not_fetched(self.host.name, stdout, str(ended["stderr"])) if code else ""
