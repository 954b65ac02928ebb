"""Words the reasons why the answers of an alias may not be those that were applied."""

from collections.abc import Iterator

from fleet.history import History
from fleet.names import adapter_address
from fleet.resources import LoadedAdapter, Route, State
from fleet.rollouts import applied_route
from plans.wording import short_version


def findings(route: Route, live: State, history: History) -> dict[str, list[str]]:
    """Return, as the field of an alias, why its answers may not be those that were applied."""
    found = [*_findings(route, live, history)]
    return {"findings": found} if found else {}


def _findings(route: Route, live: State, history: History) -> Iterator[str]:
    if applied := applied_route(history, route):
        shares = (
            f"{short_version(share.adapter)} {share.percent} %"
            for share in applied.shares
            if share.percent
        )
        yield f"its route is not the one that was applied ({', '.join(shares)}): fleetctl plan"
    for share in route.shares:
        held = (live.resources.get(adapter_address(share.adapter, name)) for name in share.servers)
        unsure = [item.server for item in held if isinstance(item, LoadedAdapter) and item.unsure]
        if unsure:
            yield (
                f"{short_version(share.adapter)} on {', '.join(unsure)} may answer other bytes, "
                "its copy was damaged: fleetctl reconcile --once"
            )
