"""Tells a live route that was changed by others from the route that was applied."""

from fleet.history import History
from fleet.resources import FULL, Route


def applied_route(history: History, live: Route) -> Route | None:
    """Return the route that was applied, where others changed the live route.

    None: no shares were changed, or the live route may be that of a rollback; the alias then stays
    as it is until a person releases it.
    """
    applied = history.established.get(live.address)
    if not isinstance(applied, Route) or _split(applied) == _split(live):
        return None
    return None if may_be_rollback(applied, live, history) else applied


def may_be_rollback(applied: Route, live: Route, history: History) -> bool:
    """Say whether a live route may be that of a rollback whose entry has not reached the ledger.

    A rollback gives all traffic to a version that once had it, and changes nothing else.
    """
    (salt, then), (live_salt, now) = _split(applied), _split(live)
    back = next((name for name, percent in now.items() if percent == FULL), "")
    same = salt == live_salt and then != now and then.keys() == now.keys()
    return same and back in history.answered_all


def is_diverted(applied: Route, live: Route) -> bool:
    """Say whether a live route is the applied route without some of its servers."""
    servers = {share.adapter: set(share.servers) for share in applied.shares}
    return (
        _split(applied) == _split(live)
        and all(servers[share.adapter].issuperset(share.servers) for share in live.shares)
        and applied.policy == live.policy
    )


def _split(route: Route) -> tuple[str, dict[str, int]]:
    return route.salt, {share.adapter: share.percent for share in route.shares}
