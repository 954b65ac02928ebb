"""The engines and gateways of a call's fleet: connections to them, and what they hold."""

import asyncio
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from fleet.errors import FleetError
from fleet.history import marked_unsure
from fleet.resources import State
from runtime import event_loop
from runtime.observe import FleetConnections, connect
from runtime.state.shared_files import TABLE
from runtime.trust import untrusted_notes
from runtime.workspace.call import Call
from runtime.workspace.ledger import LedgerContext
from runtime.workspace.project import ProjectContext

if TYPE_CHECKING:  # a rollback works while engines cannot be imported
    from runtime.engines.protocol import Direct, Report
    from runtime.gateway.envoy.admin import Envoys


class MachinesContext:
    """The servers and gateways of a fleet, connected to on demand."""

    def __init__(self, call: Call, project: ProjectContext, ledger: LedgerContext) -> None:
        """Connect to nothing yet."""
        self._call, self._project, self._ledger = call, project, ledger

    @property
    def knows_routes(self) -> bool:
        """Whether a routing table is known here."""
        return (self._call.state_dir / TABLE).is_file()

    def envoys(self) -> "Envoys":
        """Return the maker of files of gateways that are Envoys."""
        return self._call.make_envoys(self._call.root)

    def connected(
        self, report: "Report" = lambda *_: None, direct: "Direct | None" = None
    ) -> AbstractAsyncContextManager[FleetConnections]:
        """Connect to engines and gateways; their connections are released at the end.

        `report`: called while files are brought to a host. `direct`: as of `connect`.
        """
        call, fleet = self._call, self._project.fleet()
        fleet_id = self._ledger.fleet_id()
        return connect(fleet, call.root, call.state_dir, self.envoys(), report, fleet_id, direct)

    async def observe_now(self) -> State:
        """Observe every server and gateway; versions that may answer other bytes are marked."""
        await asyncio.to_thread(self._ledger.pull)
        async with self.connected() as connections:
            live = await connections.observe()
        hosts = self._project.fleet().hosts.values()
        notes = untrusted_notes(server.url for host in hosts for server in host.attached)
        live = replace(live, notes=(*live.notes, *notes))
        with suppress(FleetError):  # what needs the ledger says so itself
            live = marked_unsure(live, (await asyncio.to_thread(self._ledger.history)).damage)
        return live

    def observe(self) -> State:
        """Observe every server and gateway, for synchronous callers."""
        return event_loop.run(self.observe_now())
