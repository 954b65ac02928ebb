"""Shadows: versions that are loaded to get copies of requests, and no traffic of clients."""

from dataclasses import replace

from fleet.declared import Adapter, Fleet
from fleet.history import History
from fleet.pace.wanted import Wanted
from fleet.resources import Route


def shadowed(
    fleet: Fleet, adapter: Adapter, wanted: Wanted, route: Route | None, history: History
) -> Wanted:
    """Return what an alias should have, with the version that gets copies among it.

    One that is no longer declared goes, unless it has ever served: then it stays as long as
    any version that was replaced.
    """
    name = adapter.shadow.adapter if adapter.shadow else ""
    before = route.shadow if route is not None else ""
    gone = before if before != name else ""
    holds = history.holds.get(wanted.alias, {})
    served = gone in history.cutovers or gone in holds or gone == wanted.target
    shares = tuple(
        (each, percent) for each, percent in wanted.shares if each != gone or percent or served
    )
    if name and shares and name in fleet.versions and name not in dict(shares):
        shares = (*shares, (name, 0))
    return wanted if shares == wanted.shares else replace(wanted, shares=shares)
