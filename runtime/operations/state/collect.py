"""Collect garbage: adapter versions, served copies and answers of evaluations without a use."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from fleet.errors import EngineError
from fleet.hardware import HostSpec
from fleet.history import Collected
from fleet.names import AdapterName
from fleet.rules import UNRECORDED, RetentionDecision, kept_answers, retained
from runtime.engines.remote.connection import connection_to
from runtime.engines.remote.copies import HostCopy, delete_copies, list_copies
from runtime.engines.store import source_of
from runtime.evals.store import EvalStore
from runtime.library.delete import clear, copies, remove_copy, remove_version, size
from runtime.library.layout import version_folder
from runtime.observe import doubts
from runtime.project.load import library_folder
from runtime.workspace import Call, Workspace


@dataclass(frozen=True, slots=True)
class Garbage:
    """The retention decisions of a project."""

    versions: tuple[RetentionDecision, ...]
    copies: tuple[RetentionDecision, ...]
    answers: tuple[RetentionDecision, ...]
    host_copies: tuple[RetentionDecision, ...] = ()
    """Copies in the stores of hosts of engine `ssh` and in the shared folders of Ray's, as
    `HOST:COPY`; of hosts that share a folder the first is named."""
    host_sizes: Mapping[str, int] = field(default_factory=dict)

    @property
    def due(self) -> list[RetentionDecision]:
        """Decisions to delete."""
        decisions = (*self.versions, *self.copies, *self.answers, *self.host_copies)
        return [decision for decision in decisions if not decision.needed]


def find_garbage(workspace: Workspace) -> Garbage:
    """Observe the fleet and decide which versions, copies and answers are needed.

    Raises:
        EngineError: FC4022, a server or a gateway does not answer.
    """
    fleet, stored = workspace.project.fleet(), EvalStore(workspace.state_dir / "evals").stored()
    versions, served, there = asyncio.run(_retained(workspace))
    entries = workspace.ledger.open().read() if stored else []
    answers = kept_answers(stored, entries, fleet.versions, workspace.now(), fleet.evals.keep)
    kept = {fleet.versions[its.name].digest: f"{its.name} stays" for its in versions if its.needed}
    kept |= {its.name.partition("-")[0]: its.why for its in served if its.needed}
    kept |= _bases(workspace) if there else {}
    sizes = {name: copy.size for name, copy in there.items()}
    return Garbage(versions, served, answers, tuple(_on_hosts(there, kept)), sizes)


def _bases(workspace: Workspace) -> dict[str, str]:
    """Return why the copies of bases stay, by digest."""
    bases = workspace.project.fleet().bases
    folders = {name: workspace.root / base.model for name, base in bases.items()}
    return {
        asyncio.run(source_of(folder, links=True)).digest: f"base {name} is declared"
        for name, folder in folders.items()
        if folder.is_dir()
    }


def _with_stores(hosts: Mapping[str, HostSpec]) -> Iterator[HostSpec]:
    """Yield the hosts to which copies are brought, of those that share a folder the first."""
    seen = set[str]()
    for _, host in sorted(hosts.items()):
        if host.engine == "ssh":
            yield host
        elif host.engine == "ray" and host.store not in seen:
            seen.add(host.store)
            yield host


def _on_hosts(
    there: Mapping[str, HostCopy], kept: Mapping[str, str]
) -> Iterator[RetentionDecision]:
    """Decide which copies on hosts may be deleted; `kept` has the digests that stay, and why."""
    for name, copy in sorted(there.items()):
        why = kept.get(copy.digest, "")
        if copy.age_s < UNRECORDED.total_seconds():
            why = "it was brought less than a day ago"
        if copy.is_used:
            why = "a unit, a record, a file of adapters or a process there names it"
        yield RetentionDecision(name, bool(why), why or "nothing there or here needs it")


async def _retained(
    workspace: Workspace,
) -> tuple[tuple[RetentionDecision, ...], tuple[RetentionDecision, ...], dict[str, HostCopy]]:
    fleet = workspace.project.fleet()
    async with workspace.machines.connected() as connections:
        live, gateways = await connections.observe(), connections.gateways
        unsure = await doubts(live, gateways, workspace.state_dir, fleet.hosts)
        if unsure:
            raise EngineError.of(
                "FC4022",
                "Not everything is known, so nothing is deleted",
                " ".join(f"{reason}." for reason in unsure),
                hint="A deleted folder can end a server for every client. Restart or stop the "
                "servers that do not answer, then run the command again.",
                command="fleetctl status",
            )
        busy: Counter[str] = Counter()
        for (_, adapter), count in (await gateways.all_in_flight()).items():
            busy[adapter] += count
        hosts = [*_with_stores(fleet.hosts)]
        calls = (list_copies(connection_to(host), host.store_there) for host in hosts)
        listed = zip(hosts, await asyncio.gather(*calls), strict=True)
    there = {f"{host.name}:{copy.name}": copy for host, its in listed for copy in its}
    present = copies(workspace.state_dir / "store")
    history, now = workspace.ledger.history(), workspace.now()
    return *retained(fleet, live, history, now, copies=present, busy=busy), there


def garbage_sizes(call: Call, garbage: Garbage) -> dict[str, int]:
    """Return the bytes on disk by name of a version, digest of a copy, id of an evaluation."""
    library, store = library_folder(call.root), call.state_dir / "store"
    evals = EvalStore(call.state_dir / "evals")
    return {
        **{
            version.name: size(version_folder(library, AdapterName.parse(version.name)))
            for version in garbage.versions
        },
        **{copy.name: size(store / copy.name) for copy in garbage.copies},
        **{run.name: evals.size(run.name) for run in garbage.answers},
        **garbage.host_sizes,
    }


def delete_garbage(workspace: Workspace, agreed: Garbage) -> None:
    """Delete, under the lease, the agreed garbage that a second observation finds unneeded too.

    Raises:
        FleetError: FC4022, as of `find_garbage`; another run holds the lease; a folder or the
            lock cannot be written.
    """
    store, ledger = workspace.state_dir / "store", workspace.ledger.open()
    names = {decision.name for decision in agreed.due}
    with ledger.lease(f"{workspace.by} (run {workspace.run}, gc)") as lease:
        now = find_garbage(workspace)
        versions, copies, runs, there = (
            [decision.name for decision in group if not decision.needed and decision.name in names]
            for group in (now.versions, now.copies, now.answers, now.host_copies)
        )
        event = Collected(tuple(versions), (*copies, *there), tuple(runs))
        ledger.append([event], lease.token)
        EvalStore(workspace.state_dir / "evals").remove(runs)
        clear([store, *(library_folder(workspace.root) / "adapters").glob("*")])
        for copy in copies:  # copies first: from them servers load
            remove_copy(store, copy)
            lease.renew()
        for name in there:
            host = workspace.project.fleet().hosts[name.partition(":")[0]]
            copy = name.partition(":")[2]
            asyncio.run(delete_copies(connection_to(host), host.store_there, [copy]))
            lease.renew()
        for name in versions:
            remove_version(library_folder(workspace.root), workspace.root, AdapterName.parse(name))
            workspace.inform(f"Deleted {name}.")
            lease.renew()
