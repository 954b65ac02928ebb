"""Writes routes and keys in batches: one table per batch, acknowledged by every gateway."""

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace

from fleet.errors import EngineError, FleetError, LockHeldError, StalePlanError, problem
from fleet.history import StepStarted
from fleet.resources import Key, Resource
from fleet.steps import DeleteKey, DeleteRoute, SetKey, SetRoute, Step
from runtime.execute.context import ExecutionContext, Journal
from runtime.execute.live_view import LiveView
from runtime.execute.outcome import StepOutcome, StepResult, StepState, describe, step_state
from runtime.gateway.table.table import AliasEntry, KeyEntry, RoutingTable
from runtime.ledger.lease import lost

ATTEMPTS = 5
"""Upper bound of the attempts of a batch, where other runs write the table in between."""


class RouteWriter:
    """Writes the table for a run, a batch at a time."""

    def __init__(
        self,
        context: ExecutionContext,
        view: LiveView,
        journal: Journal,
        started: Callable[[Step], StepStarted],
    ) -> None:
        """Prepare; nothing is read or written. `started` makes the record of a step's begin."""
        self._context, self._view, self._journal = context, view, journal
        self._started = started
        self._one_at_a_time = asyncio.Lock()
        self.notes: dict[str, None] = {}
        """Notes of the gateways, such as that none runs; in order, without repetition."""

    async def write(self, steps: Sequence[Step]) -> dict[str, StepResult]:
        """Carry out steps on routes and keys; return the results by step id.

        Raises:
            LockHeldError: a newer run has written the table or the ledger.
        """
        async with self._one_at_a_time:
            announced: set[str] = set()
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    return await self._attempt(steps, announced)
                except StalePlanError as error:  # another run wrote meanwhile: read again
                    if attempt == ATTEMPTS:
                        return {step.id: _failed(error) for step in steps}
                except LockHeldError:
                    raise
                except FleetError as error:
                    # The table's file may be written and a gateway may serve it already.
                    return {step.id: _failed(error, unsure=step.id in announced) for step in steps}
        raise AssertionError("ATTEMPTS is 1 or more")

    async def repeat(self, *, always: bool) -> None:
        """Publish the newest table again where a server that routes name has another URL or launch.

        `always`: also where none has, for gateways that lag behind.
        """
        async with self._one_at_a_time:
            table = await self._read()
            found = await self._servers(table)
            if (found, self._launches(table, found)) != (table.servers, table.launches):
                await self._publish(table)
            elif always:
                await self._context.gateways.publish(table)

    async def _read(self) -> RoutingTable:
        table, _ = await self._context.gateways.read_table()
        if table.token > self._journal.token:
            raise lost(self._journal.token, table.token)
        return table

    async def _attempt(self, steps: Sequence[Step], announced: set[str]) -> dict[str, StepResult]:
        table = await self._read()
        aliases, keys = dict(table.aliases), dict(table.keys)
        results: dict[str, StepResult] = {}
        due: list[Step] = []
        for step in steps:
            live = _live(step, table)
            match step_state(step, live):
                case StepState.SATISFIED:
                    verdict = StepOutcome.DONE if step.id in announced else StepOutcome.ADOPTED
                    results[step.id] = StepResult(verdict)
                case StepState.STALE:
                    results[step.id] = stale(step, live)
                case StepState.DUE:
                    try:
                        self._put(step, aliases, keys)
                    except FleetError as error:
                        results[step.id] = _failed(error)
                    else:
                        due.append(step)
        if not due:
            return results
        fresh = [step for step in due if step.id not in announced]
        await self._journal.write(*(self._started(step) for step in fresh))
        announced.update(step.id for step in fresh)
        update = {"aliases": dict(sorted(aliases.items())), "keys": dict(sorted(keys.items()))}
        await self._publish(table.model_copy(update=update))
        return results | {step.id: StepResult(StepOutcome.DONE) for step in due}

    async def _publish(self, table: RoutingTable) -> None:
        """Write the next revision with the servers that its routes name."""
        servers = await self._servers(table)
        update = {
            "revision": table.revision + 1,
            "token": self._journal.token,
            "servers": servers,
            "aliases": {
                alias: self._view.with_digests(entry) for alias, entry in table.aliases.items()
            },
            "launches": self._launches(table, servers),
        }
        written = table.model_copy(update=update)
        self.notes |= dict.fromkeys(map(str, await self._context.gateways.publish(written)))
        self._view.record_tables(written)

    async def _servers(self, table: RoutingTable) -> dict[str, str]:
        """Return the address of every server that a route names, of those that are known."""
        for server in table.without_address:  # no step of this run has looked there
            if server not in self._view.urls():
                with suppress(EngineError):
                    await self._view.refresh(server)
        known = {**table.servers, **self._view.urls()}
        return {server: known[server] for server in sorted(table.named) if server in known}

    def _launches(self, table: RoutingTable, servers: Iterable[str]) -> dict[str, str]:
        """Return the launches of servers, as seen last; a server without a launch is left out."""
        known = {**table.launches, **self._view.launches()}
        return {server: known[server] for server in servers if known.get(server)}

    def _put(self, step: Step, aliases: dict[str, AliasEntry], keys: dict[str, KeyEntry]) -> None:
        match step.operation:
            case SetRoute(route=route):
                aliases[route.alias] = AliasEntry.of(route, aliases.get(route.alias))
            case DeleteRoute(route=route):
                aliases.pop(route.alias, None)
            case SetKey(key=key):
                keys[f"{key.client}/{key.name}"] = self._entry(key)
            case DeleteKey(key=key):
                keys.pop(f"{key.client}/{key.name}", None)
            case _:
                raise AssertionError(f"{step.id} is no step on a route or key")

    def _entry(self, key: Key) -> KeyEntry:
        """Resolve the secret; only its hash goes on."""
        secret = self._context.secret(key.reference)
        if secret is None:
            detail = f"`{key.reference}` of {key.address} is not readable here."
            hint = "Run apply where it is, or make the key."
            command = f"fleetctl key create {key.client}/{key.name}"
            raise FleetError.of(
                "FC5117", "A key's secret cannot be read", detail, hint=hint, command=command
            )
        digest = hashlib.sha256(secret.encode()).hexdigest()
        entry = KeyEntry(client=key.client, name=key.name, reference=key.reference, sha256=digest)
        if key.fingerprint not in (None, entry.fingerprint):
            raise FleetError.of(
                "FC5118",
                "A key's secret is not the planned one",
                f"The plan saw the secret {key.fingerprint} behind `{key.reference}`; it is "
                f"{entry.fingerprint} now.",
                hint="It was changed since; plan again.",
                command="fleetctl plan",
            )
        return entry


def stale(step: Step, live: Resource | None) -> StepResult:
    """Return the result of a stale step."""
    diagnostic = problem(
        "FC5119",
        "The plan is stale here",
        f"`{step.id}`: the plan saw {describe(step.before)} at `{step.address}`, "
        f"and there is {describe(live)} now.",
        hint="Plan again; what does not depend on it has been done.",
        command="fleetctl plan",
    )
    return StepResult(StepOutcome.STALE, diagnostics=(diagnostic,))


def _live(step: Step, table: RoutingTable) -> Resource | None:
    match step.operation:
        case SetRoute(route=route) | DeleteRoute(route=route):
            entry = table.aliases.get(route.alias)
            return entry.route(route.alias) if entry else None
        case SetKey(key=key) | DeleteKey(key=key):
            found = table.keys.get(f"{key.client}/{key.name}")
            if found is None:
                return None
            live = found.key()
            # A key that the plan could not read is known by its reference alone.
            unread = key.fingerprint is None and key.reference == live.reference
            return replace(live, fingerprint=None) if unread else live
        case _:
            return None


def _failed(error: FleetError, *, unsure: bool = False) -> StepResult:
    return StepResult(StepOutcome.FAILED, diagnostics=error.diagnostics, unsure=unsure)
