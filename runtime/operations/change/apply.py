"""Execute a plan on a project's engines and gateways; refuse a plan that is not to be executed."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import Final

from fleet.costing import terms_of
from fleet.errors import (
    ConfigError,
    Diagnostic,
    EngineError,
    FleetError,
    LibraryError,
    StalePlanError,
    problem_of,
)
from fleet.history import (
    CopyDamaged,
    CostTermsChanged,
    History,
    carried_out,
    clock_behind,
    found_damage,
    loaded_digests,
    settled,
    tampered_evidence,
    tampering,
)
from fleet.names import AdapterName, Address, server_address, server_of_address
from fleet.plan import Plan
from fleet.planning import changed_bytes
from fleet.resources import Route, Server, State
from fleet.spec import FleetSpec
from fleet.steps import ApplyEvent, Emit, LoadAdapter, StartServer, UnloadAdapter
from fleet.vllm import attached_faults, with_engines
from runtime.engines.observation import merge
from runtime.execute.context import ExecutionContext
from runtime.execute.outcome import ApplyOutcome
from runtime.execute.run import execute, moved_since
from runtime.git import commit_of
from runtime.library.add import KnownBase, committed_bytes
from runtime.library.layout import WEIGHTS, copies_of, version_folder
from runtime.library.preflight import FiniteValues, Preflight
from runtime.library.served_copies import damaged, publish, require_bytes, wrong_with
from runtime.observe import FleetConnections, remember_hosts
from runtime.operations.change.planning import plan_fleet
from runtime.project.facts import read_lock
from runtime.project.load import library_folder
from runtime.secrets import read_secret
from runtime.sources.opening import direct_from
from runtime.state_folder import STORE
from runtime.workspace import Call, Workspace

READ_MOST: Final = 1 << 30
"""Upper bound of the weights that a check ahead reads; the rest is checked by the apply. Bytes."""


def preflight_of(workspace: Workspace, *, by_ledger: bool = True) -> Preflight:
    """Return the check of versions before their load, with the facts of the project.

    `by_ledger`: versions that served before are known from the ledger; else every version counts
    as one, and another name of its base is a warning.
    """
    fleet, bases = workspace.project.fleet(), dict[str, KnownBase]()
    with suppress(FleetError, OSError):  # for a base that serves and is no longer declared
        locked = read_lock(workspace.root).bases.items()
        bases = {name: KnownBase(name, "", base) for name, base in locked}
    for name, base in fleet.bases.items():
        if base.shape:
            bases[name] = KnownBase(name, base.model, base.shape, base.known_as)
    served = {name: facts.digest for name, facts in fleet.versions.items()}
    if by_ledger:
        served = {}
        with suppress(FleetError):  # an unreadable ledger knows of no version
            served = loaded_digests(workspace.ledger.history())
    finite = FiniteValues(workspace.state_dir / "cache" / "preflight")
    return Preflight(bases, fleet.versions, finite, served)


def check_plan(workspace: Workspace, plan: Plan) -> tuple[tuple[Diagnostic, ...], int]:
    """Check the versions that a plan loads; return warnings, and the number left to the apply."""
    operations = (step.operation for step in plan.steps)
    loads = [work.adapter for work in operations if isinstance(work, LoadAdapter)]
    versions = {adapter.adapter: adapter.digest for adapter in loads if adapter.digest}
    if not versions:
        return (), 0
    found, left = _check(workspace, preflight_of(workspace), versions)
    problems = chain.from_iterable(found.values())
    return tuple(replace(problem, severity="warning") for problem in problems), left


def check_declared(workspace: Workspace) -> tuple[tuple[Diagnostic, ...], int]:
    """Check the declared versions; return warnings with places, and the number left to an apply.

    Raises:
        ConfigError: a version must not be loaded, or has other bytes than an earlier commit of
            the lock.
    """
    fleet = workspace.project.fleet()
    names = {str(adapter.name): adapter.name for adapter in fleet.adapters.values()}
    versions = {name: fleet.versions[name].digest for name in names if name in fleet.versions}
    committed = committed_bytes(workspace.root)
    changed = [
        changed_bytes(
            fleet, name, facts.digest, f"commit {was.commit} of the lock has {was.digest[:12]}"
        )
        for name, facts in fleet.versions.items()
        if (was := committed.get(name)) and was.digest != facts.digest
    ]
    if changed:
        raise ConfigError(*changed)
    found, left = _check(workspace, preflight_of(workspace, by_ledger=False), versions)
    placed: list[Diagnostic] = []
    for name, problems in found.items():
        its = names[name]
        place = fleet.declared_at("clients", its.client, "adapters", its.task, "version")
        placed += (replace(wrong, place=place) for wrong in problems)
    if errors := [problem for problem in placed if problem.severity == "error"]:
        raise ConfigError(*errors)
    return tuple(placed), left


def _check(
    call: Call, preflight: Preflight, versions: Mapping[str, str]
) -> tuple[dict[str, tuple[Diagnostic, ...]], int]:
    """Check versions (full name to digest) whose bytes are here; return problems by name.

    Also returns the number of versions of which the values are left unread.
    """
    library, store = library_folder(call.root), call.state_dir / STORE
    found, left, budget = dict[str, tuple[Diagnostic, ...]](), 0, READ_MOST
    for name, digest in sorted(versions.items()):
        folder = version_folder(library, AdapterName.parse(name))
        if not (folder / WEIGHTS).is_file():
            continue  # an apply may run where the bytes are
        try:
            if preflight.finite.silent(digest) is None:
                budget -= (folder / WEIGHTS).stat().st_size
                if budget < 0:
                    left += 1
                    continue
                if wrong_with(folder, digest):
                    copies = copies_of(digest, store)
                    folder = next((copy for copy in copies if not wrong_with(copy, digest)), folder)
                    require_bytes(folder, digest)
            found[name] = preflight.check(name, digest, folder)
        except LibraryError as error:
            found[name] = error.diagnostics
    return found, left


def record_cost_terms(workspace: Workspace, live: State) -> None:
    """Append the terms that differ from those recorded last; a fleet without prices has none.

    A server that does not answer has its terms recorded last, else those of what the ledger has
    there, and a server that lacks versions has the terms with them: an outage is no change of the
    fleet. Whatever ends this is a warning: the next round records the terms.
    """
    try:
        history = settled(workspace.ledger.history(), live)
        missing = {
            key: item
            for key, item in history.established.items()
            if not live.knows(key) or server_address(server_of_address(key)) in live.resources
        }
        state = replace(live, resources={**missing, **live.resources})
        fleet = workspace.project.fleet()
        terms = terms_of(with_engines(fleet, live), state)
        before, now = history.cost_terms, terms.documents()
        now |= {key: dict(before[key]) for key in _silent(fleet, history, live) if key in before}
        if before or terms.is_priced:
            changed = {
                key: now.get(key)
                for key in sorted(before.keys() | now.keys())
                if now.get(key) != before.get(key)
            }
            if changed:
                workspace.ledger.open().append([CostTermsChanged(changed)])
    except Exception as error:  # noqa: BLE001 (no apply and no round ends by a record of costs)
        problem = problem_of(error).diagnostics[0]
        workspace.warn(f"terms of costs were not recorded: {problem.reason}: {problem.detail}")


def _silent(fleet: FleetSpec, history: History, live: State) -> Iterator[Address]:
    """Yield the servers of declared hosts that do not answer and were not stopped on purpose."""
    for address, server in history.established.items():
        if isinstance(server, Server) and server.host in fleet.hosts:
            is_awaited = server.name in {*live.ended, *history.returning}
            is_awaited |= server.host in live.away_hosts or not live.knows(address)
            if is_awaited and address not in live.resources:
                yield address


def require_applicable(workspace: Workspace, plan: Plan, file: Path) -> None:
    """Refuse a plan from a file that is for another fleet or was carried out before.

    Raises:
        FleetError: FC5120, the plan is for another fleet.
        StalePlanError: FC5125, the plan was carried out, and others since.
    """
    if plan.fleet != workspace.project.fleet().name:
        raise FleetError.of(
            "FC5120",
            "The plan is for another fleet",
            f"`{file}` is a plan for fleet `{plan.fleet}`; this project declares "
            f"`{workspace.project.fleet().name}`.",
            hint="Apply it in its own project, or plan here.",
            command="fleetctl plan --out plan.json",
        )
    workspace.ledger.history()  # which tells of a home that hangs or is gone
    done = carried_out(workspace.ledger.open().newest(plan.ledger_seq), plan.id)
    if done is not None:
        detail = f"Plan {plan.id} was done at {done:%Y-%m-%d %H:%M} UTC, and other plans since."
        hint = "Its review was of an earlier state. Plan again."
        command = "fleetctl plan --out plan.json"
        raise StalePlanError.of(
            "FC5125", "The plan has been carried out before", detail, hint=hint, command=command
        )


def require_trusted(workspace: Workspace, plan: Plan) -> None:
    """Refuse a plan that raises a version's share by evidence that may not be used now.

    A plan made now holds such versions; a plan from a file was made before.

    Raises:
        FleetError: FC5108, the clock is behind the ledger; FC5130, evidence of an alias does not
            follow from its counts.
    """
    up = rising(plan)
    if not up:
        return
    entries = workspace.ledger.open().standing()
    late = clock_behind(entries, workspace.now())
    if late is not None:
        raise late
    found = tampered_evidence(entries, workspace.ledger.history(), up)
    if found:
        raise FleetError(*(tampering(alias, check) for alias, check in sorted(found.items())))


def rising(plan: Plan) -> frozenset[str]:
    """Return the aliases of which a plan gives the newest version a larger share."""
    return frozenset(
        after.alias
        for change in plan.changes
        if isinstance(before := change.before, Route) and isinstance(after := change.after, Route)
        for newest in after.shares[:1]
        if newest.percent
        > next((old.percent for old in before.shares if old.adapter == newest.adapter), 0)
    )


def report_changes_since(call: Call, plan: Plan, live: State) -> None:
    """Emit the resources that changed since the plan was made.

    Raises:
        StalePlanError: FC5121, every resource of the plan has changed.
    """
    moved = moved_since(plan, live)
    if not moved:
        return
    listed = "".join(f"\n  {address}" for address in moved)
    if len(moved) == len(plan.changes):
        detail = f"Everything that plan {plan.id} would change has been changed since:{listed}"
        hint = "Plan again."
        command = "fleetctl plan --out plan.json"
        raise StalePlanError.of("FC5121", "The plan is stale", detail, hint=hint, command=command)
    text = f"Changed since plan {plan.id} was made; dependent steps will be skipped:{listed}"
    call.inform(text)


async def execute_plan(
    workspace: Workspace,
    plan: Plan,
    emit: Emit,
    *,
    stop: asyncio.Event,
    trigger: str,
    heeds_freeze: bool,
) -> ApplyOutcome:
    """Execute a plan on the project's engines and gateways.

    Raises:
        asyncio.CancelledError: the execution was cancelled.
        EngineError: FC4037, an attached server is not as declared; nothing was changed.
        EngineRejectedError: FC4026, started servers would refuse a gateway.
        FrozenError: FC6067, a freeze stops the plan, which heeds one.
        LockHeldError: another run holds the lease.
    """
    fleet, store = workspace.project.fleet(), workspace.state_dir / STORE
    library = library_folder(workspace.root)
    preflight = preflight_of(workspace)

    @cache
    def spoiled() -> frozenset[str]:
        return frozenset(workspace.ledger.history().damage)  # with what this run has recorded

    def copy_to_store(adapter: str, digest: str) -> Path:
        folder = version_folder(library, AdapterName.parse(adapter))
        copy = publish(folder, digest, store, spoiled())
        preflight.check(adapter, digest, copy)
        return copy

    def find_damage(history: History, live: State) -> tuple[CopyDamaged, ...]:
        if trigger != "apply":
            return ()  # a reconcile round has just looked
        return found_damage(damaged(live.adapters().values(), store), history, live)

    remember_hosts(workspace.state_dir, fleet.hosts)

    def report(what: str, done: int, size: int) -> None:
        emit(ApplyEvent("transfer", {"what": what, "bytes": done, "size": size}))

    sources = {facts.digest: facts.source for facts in fleet.versions.values()}
    direct = direct_from(sources, fleet.extensions.get("sources", {}))
    async with workspace.machines.connected(report, direct) as connections:
        if trigger == "apply":
            await _require_attached(fleet, plan, connections)
        keyed = {server for its in fleet.gateways.values() for server, _ in its.server_keys}
        if any(
            isinstance(its := step.operation, StartServer)
            or (isinstance(its, LoadAdapter) and its.adapter.server in keyed)
            for step in plan.steps
        ):
            await connections.gateways.require_secret()
        context = ExecutionContext(
            *connections,
            ledger=workspace.ledger.open(),
            publish=copy_to_store,
            secret=partial(read_secret, workspace.root),
            holder=f"{workspace.by} (run {workspace.run})",
            find_damage=find_damage,
            hosts={
                server.name: name for name, host in fleet.hosts.items() for server in host.attached
            },
            commit=commit_of(workspace.root),
            fleet_id=workspace.ledger.fleet_id(),
        )
        replan = partial(plan_fleet, workspace) if workspace.away is None else None
        outcome = await execute(
            plan,
            context,
            emit,
            stop=stop,
            trigger=trigger,
            replan=replan,
            heeds_freeze=heeds_freeze,
            settings=fleet.settings if trigger == "apply" else None,
        )
        await _forget_empty(workspace, connections)
    if outcome.live is not None and workspace.away is None:
        record_cost_terms(workspace, outcome.live)
    return outcome


async def _require_attached(fleet: FleetSpec, plan: Plan, connections: FleetConnections) -> None:
    """Refuse a plan that would fail half-way on attached servers; a healing run does the rest.

    Raises:
        EngineError: FC4037.
    """
    work = (step.operation for step in plan.steps)
    touched = {
        step.adapter.server for step in work if isinstance(step, LoadAdapter | UnloadAdapter)
    }
    hosts = [
        name
        for name, host in fleet.hosts.items()
        if touched & {server.name for server in host.attached}
    ]
    looks = await asyncio.gather(*(connections.engines[host].observe() for host in hosts))
    live = merge(*looks)
    if faults := [fault for _, fault in attached_faults(fleet, live, touched)]:
        raise EngineError(*faults)


async def _forget_empty(workspace: Workspace, connections: FleetConnections) -> None:
    """Forget the removed hosts that hold nothing any more."""
    hosts = dict(workspace.project.fleet().hosts)
    for name in workspace.project.fleet().removed:
        left = await connections.engines[name].observe()
        if not (left.resources or left.unknown_servers or left.notes):
            del hosts[name]
    remember_hosts(workspace.state_dir, hosts)
