"""Record the terms of costs: leases, prices, servers, fees, when they have changed."""

from dataclasses import replace

from fleet.costing import terms_of
from fleet.errors import FleetError
from fleet.history import CostTermsChanged
from fleet.resources import State
from fleet.vllm import with_engines
from runtime.workspace import Workspace


def record_cost_terms(workspace: Workspace, live: State) -> None:
    """Append the terms that differ from those recorded last; a fleet without prices has none.

    What does not answer counts as the ledger has it. A ledger that is away is a warning: the next
    round records the terms.
    """
    try:
        history = workspace.history()
        away = {key: item for key, item in history.established.items() if not live.knows(key)}
        state = replace(live, resources={**away, **live.resources})
        terms = terms_of(with_engines(workspace.fleet(), live), state)
        before, now = history.cost_terms, terms.documents()
        if before or terms.is_priced:
            changed = {
                key: now.get(key)
                for key in sorted(before.keys() | now.keys())
                if now.get(key) != before.get(key)
            }
            if changed:
                workspace.ledger().append([CostTermsChanged(changed)])
    except FleetError as error:
        workspace.warn(f"terms of costs were not recorded: {error.diagnostics[0].detail}")
