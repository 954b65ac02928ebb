"""Words the parts of a status that cannot wait: outages, and rollouts that wait for people."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from fleet.names import client_of
from fleet.planning import DriftCause
from fleet.resources import OutageKind, State
from fleet.rollouts import Phase, RolloutStatus
from fleet.spec import FleetSpec
from plans.reports.drift import outage_documents, outage_lines
from plans.reports.rollouts import condition_of, rollout_documents
from plans.tables import Paint

FOR_PEOPLE: Final = frozenset({Phase.UNDECIDED, Phase.DOUBTED, Phase.PAUSED, Phase.HELD})
"""Phases in which a version keeps its share until a person decides."""
_CLOSED: Final = frozenset({OutageKind.GATEWAY_DOWN, OutageKind.GATEWAY_REFUSES})
_RED, _YELLOW = "31", "33"


def urgent_outages(
    outages: Iterable[DriftCause], live: State, client: str | None
) -> list[dict[str, Any]]:
    """Return outages as documents, with the aliases of which requests get no answer.

    A gateway takes all aliases along; outages of servers and of aliases name their own.
    """
    rows = outage_documents(outages, client)
    for row in rows:
        closed = OutageKind(row["outage"]) in _CLOSED
        aliases = [route.alias for route in live.routes().values()] if closed else row["unanswered"]
        if aliases is not None:
            row["unanswered"] = [a for a in aliases if client in {None, client_of(a)}]
    return rows


def waiting_rollouts(
    fleet: FleetSpec, statuses: Iterable[RolloutStatus], client: str | None
) -> list[dict[str, Any]]:
    """Return the documents of the rollouts that wait for people."""
    found = (status for status in statuses if status.target.phase in FOR_PEOPLE)
    documents = rollout_documents(fleet, found)
    return [its for its in documents if client is None or its["alias"].startswith(f"{client}-")]


def urgent_lines(document: Mapping[str, Any], paint: Paint) -> list[str]:
    """Return the lines of outages, then of rollouts that wait; an empty line ends each kind."""
    lines = []
    for outage in document.get("outages", ()):
        first, *rest = outage_lines([outage])[:-1]
        lines += [paint(_RED, first), *rest]
    lines += [""] if lines else []
    for rollout in document.get("waiting", ()):
        version = f"{rollout['alias']} {rollout['version']} at {rollout['percent']} %"
        lines.append(paint(_YELLOW, f"WAITS FOR A PERSON {version}: {condition_of(rollout)}"))
        lines.append(f"  Helps: fleetctl rollout status {rollout['alias']}")
    return [*lines, ""] if document.get("waiting") else lines
