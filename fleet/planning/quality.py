"""Find versions in service whose answers are so bad that other bytes answer, most likely."""

from collections.abc import Iterator, Mapping, Sequence

from fleet.evals import DriftStatus, EvalRecord, answering, drifts
from fleet.names import adapter_address, route_address
from fleet.planning.drift_cause import DriftAction, DriftCause
from fleet.resources import State


def quality_causes(past: Mapping[str, Sequence[EvalRecord]], live: State) -> tuple[DriftCause, ...]:
    """Return the answering versions whose last result is far below the library's own evaluation.

    Args:
        past: Evaluations of the ledger by alias, oldest first.
        live: The observed state, with the routes that say which version answers.
    """
    return tuple(_causes(past, live))


def _causes(past: Mapping[str, Sequence[EvalRecord]], live: State) -> Iterator[DriftCause]:
    routes = live.routes()
    for alias, adapter in sorted(answering(live).items()):
        for drift in drifts(past.get(alias, ()), adapter):
            if drift.rule == "library" and drift.standing is DriftStatus.SERVING:
                servers = (
                    server
                    for share in routes[alias].shares
                    if share.adapter == adapter
                    for server in share.servers
                )
                yield DriftCause(
                    route_address(alias),
                    DriftAction.ALERT,
                    f"{adapter} answers with an accuracy of {drift.reason}",
                    tuple(adapter_address(adapter, server) for server in servers),
                    f"fleetctl adapter verify {adapter}",
                )
