"""Record the terms of costs: leases, prices, servers, fees, when they have changed."""

from collections.abc import Iterator
from dataclasses import replace

from fleet.costing import terms_of
from fleet.errors import problem_of
from fleet.history import CostTermsChanged, History, settled
from fleet.names import Address, server_address, server_of_address
from fleet.resources import Server, State
from fleet.spec import FleetSpec
from fleet.vllm import with_engines
from runtime.workspace import Workspace


def record_cost_terms(workspace: Workspace, live: State) -> None:
    """Append the terms that differ from those recorded last; a fleet without prices has none.

    A server that does not answer has its terms recorded last, else those of what the ledger has
    there, and a server that lacks versions has the terms with them: an outage is no change of the
    fleet. Whatever ends this is a warning: the next round records the terms.
    """
    try:
        history = settled(workspace.history(), live)
        missing = {
            key: item
            for key, item in history.established.items()
            if not live.knows(key) or server_address(server_of_address(key)) in live.resources
        }
        state = replace(live, resources={**missing, **live.resources})
        fleet = workspace.fleet()
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
                workspace.ledger().append([CostTermsChanged(changed)])
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
