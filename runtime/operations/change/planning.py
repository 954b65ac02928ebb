"""Plan, place and diagnose the fleet of a workspace; go on while declarations are broken."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal

from fleet.advice import Diagnosis, LossDiagnosis, diagnose, diagnose_losses
from fleet.errors import ConfigError, FleetError, PlacementError
from fleet.evals import eval_records, read_golden_set
from fleet.history import (
    Entry,
    History,
    found_damage,
    marked_unsure,
    settled,
    undone_steps,
    with_damage,
)
from fleet.names import alias_of
from fleet.placement import PlacementResult, SearchLimits, place
from fleet.plan import Plan
from fleet.planning import (
    USUAL,
    BestEffort,
    DriftCause,
    best_effort,
    changed_by_others,
    classify_drift,
    desired_state,
    failed_causes,
    make_plan,
    quality_causes,
    weak_new_keys,
    with_served_bytes,
    without_weak_keys,
)
from fleet.resources import State
from fleet.rollouts import RolloutTargets, decide_rollouts
from fleet.spec import FleetSpec
from fleet.vllm import with_engines
from runtime.files import read_plain
from runtime.library.served_copies import damaged
from runtime.messages import FailureMessage
from runtime.project.declaration_files import MAIN
from runtime.project.load import load_project
from runtime.state_folder import STORE
from runtime.workspace import Call, LedgerContext, Workspace


def plan_without_unplaced(
    workspace: Workspace, make: Callable[[], Plan], error: ConfigError | PlacementError
) -> Plan:
    """Set the clients aside that have no place, or other bytes than they served with.

    Raises:
        FleetError: `error` itself, where it is not of single clients.
    """
    before, broken = workspace.aside, _without_place(workspace.project.fleet(), error)
    if not broken:
        raise error
    alone = [{client: why} for client, why in broken.items()] if len(broken) > 1 else []
    for clients in alone:  # without the broken client, the others may have their places
        workspace.project.set_aside(clients)
        with suppress(ConfigError, PlacementError):
            return make()
        workspace.aside = before
    workspace.project.set_aside(broken)
    try:
        return make()
    except (ConfigError, PlacementError) as further:
        return plan_without_unplaced(workspace, make, further)


def _without_place(fleet: FleetSpec, error: FleetError) -> dict[str, str]:
    """Return the reasons by client; empty: the error is not of single clients."""
    found: dict[str, str] = {}
    for problem in error.diagnostics:
        if len(problem.clients) != 1 or problem.clients[0] in fleet.set_aside:
            return {}
        found[problem.clients[0]] = problem.reason
    return found


def set_spoilt_aside(workspace: Workspace) -> None:
    """Set aside the clients of which a golden set cannot be read, where the others may go on."""
    if workspace.without_broken:
        workspace.project.set_aside(_golden_faults(workspace.root, workspace.project.fleet()))


def _golden_faults(root: Path, fleet: FleetSpec) -> dict[str, str]:
    """Return why golden sets that only clients name cannot be read, by client."""
    users: dict[str, set[str]] = defaultdict(set)
    for gate in fleet.gates.values():
        users[gate.golden or ""].add("")
    for adapter in fleet.adapters.values():
        for path in filter(None, (adapter.golden, adapter.rolling)):
            users[path].add(adapter.name.client)
    found: dict[str, str] = {}
    for path, facts in fleet.golden.items():
        clients = users[path] - fleet.set_aside.keys()
        if clients and "" not in clients and (fault := _golden_fault(root, path, facts.digest)):
            found |= dict.fromkeys(clients, fault)
    return found


@lru_cache(maxsize=4096)
def _golden_fault(root: Path, path: str, _: str) -> str:
    """Return why a golden set cannot be read; empty: it can. The last argument is its digest."""
    try:
        read_golden_set(read_plain(root / path), path)
    except ConfigError as error:
        return error.diagnostics[0].reason
    return ""


@dataclass(frozen=True, slots=True)
class PlacedFleet:
    """A fleet, and a place for every version."""

    fleet: FleetSpec
    """Without the aliases of which a version has no place."""
    history: History
    wanted: RolloutTargets
    placement: PlacementResult
    error: PlacementError | None = None
    """Why some are left out."""


def observe_copies(workspace: Workspace) -> State:
    """Observe the fleet; versions whose copies are damaged now are marked, too. Writes nothing."""
    return with_damage_now(workspace, workspace.machines.observe())


def with_damage_now(workspace: Workspace, live: State, history: History | None = None) -> State:
    """Mark the versions of which the copy is damaged now; `history` None: the ledger is read."""
    faults = damaged(live.adapters().values(), workspace.state_dir / STORE)
    if not faults:
        return live
    found = found_damage(faults, history or workspace.ledger.history(), live)
    return marked_unsure(live, with_damage({}, found))


def plan_fleet(
    workspace: Workspace,
    live: State | None = None,
    fleet: FleetSpec | None = None,
    search: SearchLimits = USUAL,
) -> Plan:
    """Return the plan from declarations (or another `fleet`), live state (None: now) and ledger.

    Where the workspace goes on without broken clients, those without a place are set aside too.
    """
    state = workspace.machines.observe() if live is None else live
    history, now = settled(workspace.ledger.history(), state), workspace.now()

    def make() -> Plan:
        wanted = workspace.project.fleet() if fleet is None else fleet
        return make_plan(wanted, state, history, now, search)

    if fleet is None:
        set_spoilt_aside(workspace)
    try:
        return make()
    except (ConfigError, PlacementError) as error:
        if not workspace.without_broken or workspace.given is not None or fleet is not None:
            raise
        return plan_without_unplaced(workspace, make, error)


def is_unrecorded(ledger: LedgerContext) -> bool:
    """Say whether an earlier release made the last apply, and recorded no settings."""
    history = ledger.history()
    return history.settings is None and bool(history.owned or history.established)


def is_record_due(ledger: LedgerContext, plan: Plan, live: State) -> bool:
    """Say whether an apply of a whole plan records something else than its changes."""
    history = settled(ledger.history(), live)
    has_no_id = bool(history.owned) and not history.fleet_id
    return (
        has_no_id
        or is_unrecorded(ledger)
        or bool(changed_by_others(plan.changes, plan.held, history, live))
    )


UNRECORDED: Final = (
    "an earlier release made the last apply and did not record the settings (programs, addresses, "
    "flags, gates); the next apply records them, and plans show what differs from then on."
)
"""Note beside a plan of such a fleet, which lists no settings."""


def as_it_serves(workspace: Workspace, live: State) -> tuple[Workspace, frozenset[str]]:
    """Return a workspace in which versions keep the bytes that they have served with.

    Emits what `require_sound` refuses, and returns the aliases concerned. For plans that set no
    key.
    """
    history = settled(workspace.ledger.history(), live)
    fleet, changed = with_served_bytes(workspace.project.fleet(), history, live)
    weak = tuple(weak_new_keys(fleet, history, live))
    if not changed and not weak:
        return workspace, frozenset()
    workspace.emit(FailureMessage((*changed.values(), *weak)))
    return replace(workspace, given=without_weak_keys(fleet)), frozenset(map(alias_of, changed))


def plan_declared(workspace: Workspace, live: State, search: SearchLimits) -> Plan | None:
    """Return the plan of the declared fleet; None if the fleet does not fit."""
    try:
        return plan_fleet(workspace, live, search=search)
    except PlacementError:
        return None


def plan_best_effort(workspace: Workspace, live: State) -> tuple[Plan, BestEffort] | None:
    """Plan without the aliases that find no place; None where not even that fits."""
    now = workspace.now()
    fleet, history = workspace.project.fleet(), settled(workspace.ledger.history(), live)
    rest = best_effort(fleet, live, history, now, USUAL)
    if rest is None:
        return None
    return make_plan(rest.fleet, live, rest.history, now, USUAL), rest


def undone_causes(
    workspace: Workspace, live: State, entries: Sequence[Entry]
) -> tuple[DriftCause, ...]:
    """Return the steps that an apply could not do and that are still due, as causes of drift."""
    failed = undone_steps(entries)
    if not failed:
        return ()
    try:
        due = {step.id for step in plan_fleet(workspace, live).steps}
    except FleetError:  # nothing shows that a step is no longer due
        due = set(failed)
    return failed_causes(failed, due)


def drift_causes(
    workspace: Workspace, live: State, history: History, entries: Sequence[Entry]
) -> tuple[DriftCause, ...]:
    """Return the causes of drift: live state, served copies, steps left undone, quality."""
    read = [*live.adapters().values(), *live.resolvable.values()]
    found = classify_drift(settled(history, live), live, damaged(read, workspace.state_dir / STORE))
    found += undone_causes(workspace, live, entries)
    return (*found, *quality_causes(eval_records(entries), live))


def desired_fleet(workspace: Workspace) -> State:
    """Return the state that the fleet should have, servers with their flags.

    A server that does not answer counts as absent: its host may not have been reached yet.
    """
    live = replace(workspace.machines.observe(), unknown_servers={})
    fleet, history = workspace.project.fleet(), workspace.ledger.history()
    return desired_state(fleet, live, history, workspace.now())


def place_fleet(workspace: Workspace, live: State, search: SearchLimits) -> PlacedFleet:
    """Place the fleet, or its aliases that have a place; a warning names the others.

    Raises:
        PlacementError: no alias can be placed.
    """
    fleet, now = with_engines(workspace.project.fleet(), live), workspace.now()
    history = settled(workspace.ledger.history(), live)
    wanted = decide_rollouts(fleet, live, history, now)
    try:
        return PlacedFleet(fleet, history, wanted, place(fleet, wanted, live, search))
    except PlacementError as error:
        rest = best_effort(fleet, live, history, now, search)
        if rest is None:
            raise
        for alias, reason in rest.left_out.items():
            workspace.warn(f"{alias} is left out: {reason}.")
        workspace.inform("Shown is the rest. What helps: fleetctl diagnose")
        wanted = decide_rollouts(rest.fleet, live, rest.history, now)
        placement = place(rest.fleet, wanted, live, search)
        return PlacedFleet(rest.fleet, rest.history, wanted, placement, error)


def plan_placed(call: Call, live: State, search: SearchLimits, placed: PlacedFleet) -> Plan:
    """Return the plan of a placed fleet."""
    return make_plan(placed.fleet, live, placed.history, call.now(), search)


def diagnose_fleet(
    workspace: Workspace,
    fleet: FleetSpec,
    live: State,
    search: SearchLimits,
    changes: Sequence[str] = (),
) -> Diagnosis:
    """Diagnose a fleet; suggested commands suppose `changes` as well."""
    history = settled(workspace.ledger.history(), live)
    found = diagnose(fleet, live, history, workspace.now(), search=search)
    remedies = tuple(
        replace(remedy, what_if=(*changes, *remedy.what_if)) if remedy.what_if else remedy
        for remedy in found.remedies
    )
    return replace(found, remedies=remedies)


def diagnose_loss(
    workspace: Workspace, live: State, kind: Literal["gpu", "host", "any"]
) -> LossDiagnosis:
    """Return the losses of single devices, hosts or both of the declared fleet, with advice."""
    hosts = {"gpu": (False,), "host": (True,), "any": (False, True)}[kind]
    history = settled(workspace.ledger.history(), live)
    return diagnose_losses(workspace.project.fleet(), live, history, workspace.now(), hosts=hosts)


def as_far_as_valid(workspace: Workspace) -> tuple[Workspace, int]:
    """Return a workspace of the files without an error, and the exit code of the errors, else 0.

    Raises:
        ConfigError: a problem is in `fleet.yaml` or in no file.
    """
    try:
        workspace.project.fleet()
    except ConfigError as error:
        return with_valid_files(workspace, error), error.exit_code
    return workspace, 0


def with_valid_files(workspace: Workspace, error: ConfigError) -> Workspace:
    """Return a workspace whose fleet is declared by the files without an error.

    Raises:
        ConfigError: `error` itself, where a problem is in `fleet.yaml` or in no file.
    """
    without: frozenset[str] = frozenset()
    found = error
    while True:
        wrong = {problem.place.file for problem in found.diagnostics if problem.place} - without
        if not wrong or MAIN in wrong:
            raise error
        without |= wrong
        try:
            its = workspace.root, workspace.environment, workspace.variables
            rest = load_project(*its, without=without, state_dir=workspace.state_dir)
        except ConfigError as more:
            found = more
            continue
        names = ", ".join(sorted(without))
        report_broken(workspace, error, f"by the files that are sound, without {names}")
        return replace(workspace, given=workspace.project.with_removed(rest.fleet))


def report_broken(call: Call, error: ConfigError, how: str) -> None:
    """Emit the problems of the declarations, and `how` the run goes on."""
    call.emit(FailureMessage(error.diagnostics))
    text = (
        "the declarations are broken, so nothing new is deployed and no rollout moves on. "
        f"Goes {how}."
    )
    call.warn(text)


@contextmanager
def way_on_told(workspace: Workspace) -> Iterator[None]:
    """Add the way on to errors for which `--without-broken` makes a plan of a live fleet."""
    try:
        yield
    except (ConfigError, PlacementError) as error:
        trial = replace(workspace, without_broken=True, emit=lambda _: None)
        is_due = not workspace.without_broken
        try:
            aside = plan_fleet(trial).set_aside if is_due and trial.ledger.history().owned else ()
        except FleetError:
            aside = ()
        if not aside:
            raise
        names = ", ".join(note.subject for note in aside)
        way = f"Meanwhile, `--without-broken` leaves {names} as live, and the others go on."
        *others, last = error.diagnostics  # whose hint may lead to a command
        raise type(error)(*others, replace(last, detail=f"{last.detail} {way}")) from None
