"""Reconcile: judge and roll back, heal, promote rollouts, drill, notify; once or at an interval."""

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from fleet.codec import plain
from fleet.errors import ConfigError, FleetError, FrozenError, LockHeldError, PlacementError
from fleet.history import tampering
from fleet.plan import Plan
from fleet.planning import advances, promoted, repair
from fleet.resources import State
from fleet.spec import FleetSpec
from fleet.steps import ApplyEvent, Emit
from runtime.execute.outcome import ApplyOutcome
from runtime.gates.tick import Evaluations
from runtime.ledger.chain import DamagedLedgerError
from runtime.operations.change.adopt import require_known
from runtime.operations.change.apply import execute_plan, record_cost_terms
from runtime.operations.change.planning import (
    as_it_serves,
    plan_best_effort,
    plan_fleet,
    report_broken,
    set_spoilt_aside,
    with_valid_files,
)
from runtime.operations.change.reviewed import left_at_stage
from runtime.operations.machines.heal import HealBackoff, heal_plan, served_token, start_gateways
from runtime.operations.machines.outages import causes_left, observe_faults
from runtime.operations.rollouts.drills import drill_next_due
from runtime.operations.rollouts.gate_failures import JudgingRound
from runtime.operations.rollouts.rollouts import report_frozen
from runtime.operations.rollouts.upgrades import upgrade_onward
from runtime.operations.rounds.judge import judge_round
from runtime.operations.rounds.rounds import RoundParts, repeat, stop_signals
from runtime.operations.state.state_backup import covers_ledger
from runtime.operations.watch.budgets import keep_budgets
from runtime.operations.watch.notifications import notify_all_open
from runtime.operations.watch.usage import keep_usage
from runtime.workspace import Workspace

UNHEALED: Final = 2
"""Exit code of a round that leaves an outage or other drift."""
LEFT: Final = 4
"""Exit code of a round that leaves a client alone, as its version or its key is not sound."""


@dataclass(slots=True)
class Reconciler:
    """Runs rounds, and keeps between them the backoff, evaluations and last valid declarations."""

    progress: Callable[[Workspace, str], Emit]
    """Returns from a plan's id the receiver of its events."""
    report: Callable[[ApplyOutcome], None]
    """Receives the outcome of every plan."""
    backoff: HealBackoff = field(default_factory=HealBackoff)
    gateways: HealBackoff = field(default_factory=HealBackoff)
    """Of the starts of gateways."""
    evaluations: Evaluations = field(default_factory=Evaluations)
    last_valid: tuple[FleetSpec, datetime] | None = None
    """The fleet of the last declarations that were valid, and the time."""
    _outages: bool = False
    """Whether this round saw an outage."""
    _left: bool = False
    """Whether the round left drift unhealed."""
    _parts: RoundParts = field(init=False)
    """Those of this round."""

    async def run(self, workspace: Workspace, interval: timedelta | None) -> int:
        """Run a round, or repeat at an interval until a signal; return the exit code.

        At an interval, errors are emitted and the next round runs.

        Raises:
            FleetError: in the only round.
            OSError: in the only round.
        """
        if interval is None:
            with stop_signals() as stop:
                return await self._round(workspace, stop, once=True)
        run_round = partial(self._round, workspace, once=False)
        async for _ in repeat(run_round, interval, workspace.emit):
            pass
        await self.evaluations.stop()
        return 0

    async def _round(self, workspace: Workspace, stop: asyncio.Event, *, once: bool) -> int:
        """Start gateways again, work, tell the outages that are left; return the worst exit code.

        Gateways come first, as without them no client is answered. An error, a rollback, or a plan
        that stopped half-way comes before drift that is left.
        """
        self._left = False
        workspace, valid = self._read_declarations(workspace)
        live = await observe_faults(workspace, remember=True)
        self._outages = await start_gateways(workspace, live, self.gateways)
        if self._outages:
            live = await observe_faults(workspace)
        parts = self._parts = RoundParts(workspace.emit)
        failure: Exception | None = None
        try:
            code = await self._work(workspace, live, stop, once=once, valid=valid)
        except Exception as error:  # noqa: BLE001 (raised below; usage and budgets wait for nothing)
            failure = error
        with parts.part("the ingestion of usage"):
            await keep_usage(workspace)
        with parts.part("the budgets of gateways"):
            await keep_budgets(workspace)
        if failure is not None:
            raise failure
        looks_again = self._outages or (once and self._left)
        left = await causes_left(workspace) if looks_again else ()
        emit = self.progress(workspace, "")
        for cause in left:
            if cause.outage is not None:
                emit(ApplyEvent("outage", plain(cause)))
        aside = LEFT if workspace.project.fleet().set_aside else 0
        return code or parts.exit_code or (UNHEALED if left else aside)

    async def _work(
        self, workspace: Workspace, live: State, stop: asyncio.Event, *, once: bool, valid: bool
    ) -> int:
        """Judge, heal, promote; return the worst exit code.

        Judging comes first: a rollback takes a second, and a server longer to come back. Where
        judging is not possible, or the declarations are not valid, nothing is promoted; healing
        goes on.
        """
        refused: Exception | None = None
        judged = JudgingRound()
        try:
            until = stop if once else None
            judged = await judge_round(workspace, live, self.evaluations, self._parts, until)
        except Exception as error:  # noqa: BLE001 (healing goes on)
            refused = error
        if judged.stuck:
            workspace.inform("A version that failed still serves: see above.")
        refused = refused or judged.doubts.behind
        if judged.away is not None:  # healing and promoting are journaled, and planned by the past
            raise await self._heal_by_copy(workspace, live, stop, judged.away)
        if judged.moved:
            live = await observe_faults(workspace)
        healed, left, code = await self._heal(workspace, live, stop)
        if refused is not None:
            raise refused
        if code or stop.is_set():
            return code or judged.code
        if not valid:
            return judged.code or 1
        without = {*judged.doubts.tampered, *judged.doubts.anew}
        onward, code = await self._promote(workspace, live, stop, without, again=healed)
        if not healed and not onward:
            nothing = "Nothing else" if left else "Nothing"
            due = "may be promoted" if code == FrozenError.exit_code else "is due"
            workspace.inform(f"{nothing} to heal, no rollout {due}.")
            published = await self._publish_routes(workspace, live, stop)
            code = code or published
            with self._parts.part("the drills"):
                await drill_next_due(workspace, live)
            record_cost_terms(workspace, live)  # a plan that was executed has recorded them
        with self._parts.part("the notices"):
            await notify_all_open(workspace, live)
        if tampered := judged.doubts.tampered:
            raise FleetError(*(tampering(alias, check) for alias, check in tampered.items()))
        return code or judged.code

    async def _heal_by_copy(
        self, workspace: Workspace, live: State, stop: asyncio.Event, away: FleetError
    ) -> FleetError:
        """Heal by the copy of a ledger that cannot be read; return the ledger's error.

        Of a damaged ledger where no entry lacks. While the home does not answer, servers are
        started again where they were, by the routes that are served now.
        """
        if isinstance(away, DamagedLedgerError):
            if covers_ledger(workspace.ledger):
                await self._heal(replace(workspace, salvaged=True), live, stop)
            return away
        token = await served_token(workspace)
        if token is None:
            workspace.inform("No gateway shows its routes, so that no server is started again.")
            return away
        copy = replace(workspace, salvaged=True, away=token)
        copy.ledger.pull(0)
        await self._heal(copy, await observe_faults(copy), stop)
        return away

    def _read_declarations(self, workspace: Workspace) -> tuple[Workspace, bool]:
        """Return a workspace that reads the files anew, and whether the files are valid.

        Where they are not, the errors are emitted, and the fleet is the last valid fleet: a typing
        error in the file of a client does not stop a loop that watches a fleet.

        Raises:
            ConfigError: no fleet was valid in this process, and `fleet.yaml` itself is broken.
        """
        fresh = replace(workspace)
        try:
            set_spoilt_aside(fresh)
            self.last_valid = fresh.project.fleet(), fresh.now()
        except ConfigError as error:
            if self.last_valid is None:
                return with_valid_files(workspace, error), False
            fleet, when = self.last_valid
            report_broken(workspace, error, f"by the declarations of {when:%Y-%m-%d %H:%M:%S} UTC")
            return replace(workspace, given=fleet), False
        for client, why in fresh.project.fleet().set_aside.items():
            fresh.warn(f"{client} is set aside, and all of it stays as it is: {why}")
        return fresh, True

    async def _publish_routes(self, workspace: Workspace, live: State, stop: asyncio.Event) -> int:
        """Publish the newest table to gateways that lag behind, with missing addresses added."""
        for note in live.notes:
            workspace.inform(f"Note: {note}")
        if not live.behind:
            return 0
        nothing = repair(workspace.project.fleet().name, (), workspace.ledger.history(), live, {})
        return await self._execute(workspace, nothing, stop)

    async def _heal(
        self, workspace: Workspace, live: State, stop: asyncio.Event
    ) -> tuple[bool, bool, int]:
        """Restore missing resources; return whether any was due or left, and the exit code."""
        clock = asyncio.get_running_loop().time
        plan, due, left = await heal_plan(workspace, live, self.backoff, clock())
        self._outages |= any(cause.outage for cause in (*due, *left))
        self._left |= bool(left)
        code = await self._execute(workspace, plan, stop) if plan.steps else 0
        self.backoff.tried(due, clock())
        return bool(plan.steps), bool(left), code

    async def _promote(
        self,
        workspace: Workspace,
        live: State,
        stop: asyncio.Event,
        without: Collection[str],
        *,
        again: bool,
    ) -> tuple[bool, int]:
        """Promote the rollouts that may, `without` some aliases; `again`: observe first.

        Returns whether a step was due, and the exit code.
        """
        now = await workspace.machines.observe_now() if again else live
        require_known(workspace.ledger, now)
        sound, changed = await asyncio.to_thread(as_it_serves, workspace, now)
        without, left = {*without, *changed}, LEFT * (sound is not workspace)
        workspace = sound
        freeze = (await asyncio.to_thread(workspace.ledger.history)).freeze
        try:
            plan = plan_fleet(workspace, now)
        except PlacementError as error:
            found = plan_best_effort(workspace, now)
            if found is None:
                raise
            for alias, reason in found[1].left_out.items():
                workspace.inform(f"Left out, and stays as it is: {alias}: {reason}.")
            workspace.inform("The others go on. What helps: fleetctl diagnose")
            plan, left = found[0], left or error.exit_code
        onward = advances(plan, without | left_at_stage(workspace, plan))
        if freeze is not None:
            held = promoted(onward)
            left = report_frozen(workspace, freeze, held) or left
            onward = advances(onward, held)
        for impact in onward.impacts:
            workspace.inform(f"Moves on: {impact.alias}: {impact.summary}")
        heeds = bool(promoted(onward))  # a way back goes on while the fleet is frozen
        code = 0
        if onward.steps:
            code = await self._execute(workspace, onward, stop, heeds_freeze=heeds)
            return True, code or left
        part = await asyncio.to_thread(upgrade_onward, workspace, now, frozen=bool(freeze))
        if part is not None:
            code = await self._execute(workspace, part, stop, heeds_freeze=not freeze)
        return part is not None, code or left

    async def _execute(
        self, workspace: Workspace, plan: Plan, stop: asyncio.Event, *, heeds_freeze: bool = False
    ) -> int:
        emit = self.progress(workspace, plan.id)
        outcome = await execute_plan(
            workspace, plan, emit, stop=stop, trigger="reconcile", heeds_freeze=heeds_freeze
        )
        self.report(outcome)
        if outcome.lost is not None:
            raise LockHeldError(outcome.lost)
        return outcome.exit_code
