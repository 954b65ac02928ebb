"""A call of a command, and three contexts: its declarations, its ledger and its machines.

Plans nothing. `runtime.operations` takes a workspace, or one context of it, and does the work of a
command. Renderers and printers are handed in, so that nothing here imports `plans` or `fleetctl`.
"""

import asyncio
import getpass
import os
import socket
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from threading import Thread
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from fleet.errors import FleetError, did_you_mean
from fleet.hardware import HostSpec
from fleet.history import Audience, History, marked_unsure
from fleet.resources import State
from fleet.spec import FleetSpec, NotifyEvent
from runtime import event_loop
from runtime.backup.restore import finish_restore
from runtime.deadline import LIMIT_S, call_with_timeout
from runtime.ledger import open_ledger
from runtime.ledger.chain import EntrySigner, entry_signer
from runtime.ledger.fallback import AwayLedger, FallbackLedger, SalvagedLedger, last_known
from runtime.ledger.outbox import FOLDER, LedgerOutbox, deliver
from runtime.ledger.protocol import Ledger, LedgerSnapshot
from runtime.ledger.replica import LedgerReplica
from runtime.messages import EmitMessage, Message, Severity
from runtime.observe import FleetConnections, connect, known_hosts, with_removed
from runtime.state.documents import open_documents
from runtime.state.home import KNOWN_FILE, HomeAddress, remember_home, remembered_home
from runtime.state.shared_files import TABLE, SharedFiles
from runtime.state_folder import require_private
from runtime.trust import untrusted_notes

if TYPE_CHECKING:  # a rollback works while declarations cannot be read or engines imported
    from runtime.engines.protocol import Direct, Report
    from runtime.gateway.envoy.admin import Envoys
    from runtime.project.load import Project

PULL_S: Final = 5.0
"""Upper bound of the wait for the files that other checkouts have changed. Seconds."""
RenderNotice = Callable[[NotifyEvent, Audience, Mapping[str, Any], str], Mapping[str, Any]]
"""Makes the document of a notice; the last argument is the project's own template, or empty."""


@dataclass
class Call:
    """Arguments and author of a command. Reads nothing but the environment."""

    root: Path
    environment: str | None
    variables: Mapping[str, str]
    state_dir: Path
    emit: EmitMessage
    render_notice: RenderNotice
    make_envoys: "Callable[[Path], Envoys]"  # from the project's folder: maker of files of Envoys
    run: str = field(default_factory=lambda: uuid4().hex[:12])  # id, on entries of the ledger
    given: FleetSpec | None = None  # taken for the declared fleet; None: the files are read
    hosts: Mapping[str, HostSpec] | None = None  # taken for `known_hosts`; None: they are read
    past: History | None = None  # taken for the folded ledger; None: the ledger is read
    hung: list[Thread] = field(default_factory=list)  # readings of the ledger that go on; shared
    salvaged: bool = False  # the ledger is damaged; its verified copy is read, for repairs alone
    without_broken: bool = False  # broken clients are set aside, and the rest goes on
    aside: Mapping[str, str] = field(default_factory=dict)  # clients set aside, with the reason
    away: int | None = None
    """Token of the served table while the home is away and its copy read, for restarts in place."""
    offline: str | None = None
    """Why no connection is opened, and no secret and no variable is read; None: they are."""
    drawn_id: str = ""  # of a fleet, drawn by this run; empty: the ledger has it, or none is needed
    author: str = ""  # of this run; empty: found from the environment
    apart: bool = False  # whether the fleet is a copy, and its state folder its only home

    @cached_property
    def by(self) -> str:
        """Author of this run: as given, else the CI job's actor, or user and host."""
        if self.author:
            return self.author
        actor = os.environ.get("GITHUB_ACTOR") or os.environ.get("GITLAB_USER_LOGIN")
        return actor or f"{getpass.getuser()}@{socket.gethostname()}"

    def inform(self, text: str, severity: Severity = "info") -> None:
        """Emit a line."""
        self.emit(Message(text, severity))

    def warn(self, *lines: str) -> None:
        """Emit lines as warnings."""
        for line in lines:
            self.inform(line, "warning")

    def now(self) -> datetime:
        """Return the time, in UTC."""
        return datetime.now(UTC)


@dataclass(eq=False)
class ProjectContext:
    """The declarations: the fleet, the clients set aside, and the home that all checkouts share."""

    _call: Call
    _pull: Callable[[], None]  # takes over what other checkouts have changed
    _history: Callable[[], History]  # for what is served of clients set aside

    def fleet(self) -> FleetSpec:
        """Return the declared fleet; raises `ConfigError` with every problem."""
        return self._fleet

    @cached_property
    def _fleet(self) -> FleetSpec:
        if self._call.given is not None:
            return self._call.given
        return self.with_removed(self.load().fleet)

    def with_removed(self, fleet: FleetSpec) -> FleetSpec:
        """Return a fleet with the hosts that left its declarations and may have servers."""
        return with_removed(fleet, self.known_hosts())

    def known_hosts(self) -> Mapping[str, HostSpec]:
        """Return the hosts that are known to have servers, declared or not."""
        self._pull()
        return known_hosts(self._call.state_dir) if self._call.hosts is None else self._call.hosts

    def require_client(self, client: str | None) -> None:
        """Raise FC5122 where a client is named that is not declared."""
        declared = self.fleet().clients
        if client is not None and client not in declared:
            near = did_you_mean(client, sorted(declared))
            raise FleetError.of(
                "FC5122", "No such client", f"`{client}` is not declared.", hint=near
            )

    def load(self, edited: Mapping[str, str] = MappingProxyType({})) -> "Project":
        """Read and check the declarations; raises `ConfigError` with every problem.

        `edited`: texts by file that are taken in place of those on disk.
        """
        from runtime.project import load, set_aside  # noqa: PLC0415 (a rollback needs no fleet)

        call = self._call
        secrets = os.environ if call.offline is None else None
        declared = call.root, call.environment, call.variables
        read = partial(load.load_project, *declared, secrets, edited, call.state_dir)
        return set_aside.load_set_aside(
            read, call.root, self._history, call.aside, more=call.without_broken
        )

    def set_aside(self, clients: Mapping[str, str]) -> None:
        """Set further clients aside, with the reasons by client; the fleet is read anew."""
        if clients:
            self._call.aside = {**clients, **self._call.aside}
            vars(self).pop("_fleet", None)

    @cached_property
    def home(self) -> HomeAddress:
        """The declared home; the home as last declared, while the declarations are broken."""
        from runtime.project.load import declared_home  # noqa: PLC0415 (a rollback needs no fleet)

        call = self._call
        if call.apart:
            return HomeAddress()
        values = os.environ if call.offline is None else {}
        try:
            declared = declared_home(call.root, call.environment, call.variables, values)
            remember_home(call.state_dir, declared)
        except (FleetError, OSError):
            return remembered_home(call.state_dir)
        return declared


@dataclass(eq=False)
class LedgerContext:
    """The ledger of a fleet, its copy here, and the files that its home shares."""

    _call: Call
    _home: Callable[[], HomeAddress]
    _delivered: bool = False
    _pulled: bool = False

    @cached_property
    def signer(self) -> EntrySigner:
        """The signer of entries."""
        call = self._call
        makes_key = call.offline is None
        return entry_signer(call.state_dir, call.root, self._home(), makes_key=makes_key)

    @cached_property
    def _ledger(self) -> FallbackLedger:
        call, replica, address = self._call, self.replica, self._home()
        home = open_ledger(
            call.state_dir, call.run, call.by, call.now, address, call.root, self.signer
        )
        if call.salvaged or (call.offline is not None and address.postgresql):
            why = "is damaged" if call.away is None else "does not answer"
            outbox = LedgerOutbox(lambda: home, self.queue, call.by, call.run, down=why)
            if call.away is not None:
                return AwayLedger(home, replica, outbox, self.queue, call.away)
            return SalvagedLedger(home, replica, outbox, self.queue)
        return FallbackLedger(home, replica, call.hung, wrote=self.push, signer=self.signer)

    @cached_property
    def _shared(self) -> SharedFiles | None:
        """The files that other checkouts have too; None: the state folder is the home."""
        call, address = self._call, self._home()
        if address.is_state_folder or call.offline is not None:
            return None
        return SharedFiles(call.state_dir, open_documents(address, call.root), call.warn)

    def pull(self, limit_s: float = PULL_S) -> None:
        """Take over the files that other checkouts have changed, once; warn where that fails.

        `limit_s`: upper bound of the wait in seconds; 0: they are not asked for, now or later.
        """
        shared, was_pulled, self._pulled = self._shared, self._pulled, True
        if was_pulled or shared is None or not limit_s:
            return
        try:
            call_with_timeout(lambda: self._take_over(shared), limit_s)
        except (FleetError, OSError) as error:  # of time, too; what needs the home says the rest
            reason = str(error).partition(": ")[0]
            self._call.warn(f"what other checkouts changed is unknown: {reason}")

    def _take_over(self, shared: SharedFiles) -> None:
        if not (self._call.state_dir / KNOWN_FILE).exists() and not self.replica.is_empty():
            self._ledger.history()  # refuses the files of another fleet
        shared.pull()

    def push(self) -> None:
        """Give the home the files that have changed here; warn where that fails."""
        if self._shared is not None:
            try:
                self._shared.push()
            except (FleetError, OSError) as error:
                self._call.warn(f"other checkouts do not know yet of the change: {error}")

    @cached_property
    def replica(self) -> LedgerReplica:
        """The ledger as last read or written here."""
        return LedgerReplica(self._call.state_dir, self._call.warn)

    @property
    def queue(self) -> Path:
        """Folder of entries that wait for a ledger that does not answer."""
        return self._call.state_dir / FOLDER

    def outbox(self, limit_s: float | None = None, down: str = "") -> LedgerOutbox:
        """Return a writer to the ledger that does not wait for a home that hangs.

        `limit_s`: upper bound of the time for an entry; None: that of a rollback. `down`: why the
        home is known to be away.
        """
        by, run = self._call.by, self._call.run
        return LedgerOutbox(self.open, self.queue, by, run, limit_s or LIMIT_S, down)

    def is_lost(self) -> bool:
        """Say whether the ledger's home is empty and was not."""
        return self._ledger.is_lost()

    def open(self) -> Ledger:
        """Return the ledger of this fleet, with the entries that a rollback had to queue."""
        if not self._delivered and not self._call.salvaged and self.queue.is_dir():
            self._delivered = True  # first, for it may hang
            with suppress(FleetError, OSError):  # reading the ledger reports the same
                deliver(self.queue, self._ledger)
        return self._ledger

    def history(self) -> History:
        """Return the ledger folded into the facts that planning needs."""
        return self.open().history() if self._call.past is None else self._call.past

    def last_known(self) -> LedgerSnapshot:
        """Return the ledger, or where its home cannot be read its entries as known here.

        Raises:
            FleetError: the home cannot be read, and no entry is known here.
        """
        return last_known(self.open, self.replica, self.queue)

    def fleet_id(self) -> str:
        """Return the fleet's id, of the ledger or drawn by this run; empty: none is known."""
        with suppress(FleetError):  # what needs the ledger says so itself
            return self.history().fleet_id or self._call.drawn_id
        return self._call.drawn_id


@dataclass(eq=False)
class MachinesContext:
    """The servers and gateways of a fleet, connected to on demand."""

    _call: Call
    _project: ProjectContext
    _ledger: LedgerContext

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


@dataclass
class Workspace(Call):
    """The project of a call: declarations, ledger and machines, each opened on first use.

    A copy by `dataclasses.replace` makes its own, and so reads everything anew.
    """

    def __post_init__(self) -> None:
        require_private(self.state_dir)
        finish_restore(self.state_dir)

    @cached_property
    def project(self) -> ProjectContext:
        """The declarations."""
        return ProjectContext(self, self.ledger.pull, self.ledger.history)

    @cached_property
    def ledger(self) -> LedgerContext:
        """The ledger, and the files that other checkouts share."""
        return LedgerContext(self, lambda: self.project.home)

    @cached_property
    def machines(self) -> MachinesContext:
        """The servers and gateways."""
        return MachinesContext(self, self.project, self.ledger)
