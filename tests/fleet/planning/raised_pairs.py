"""What a route newly names, or gives a larger share: a pass of each is asked for."""

from collections.abc import Mapping, Sequence

from fleet.resources import Route, Share
from runtime.gateway.table.table import ShareEntry


def raised_pairs(
    shares: Sequence[Share | ShareEntry], before: Sequence[Share | ShareEntry]
) -> set[tuple[str, str]]:
    """Return the pairs of version and server that shares name newly or raise.

    Left out is a way back: a version with traffic takes over what the newest version loses.
    """
    percents = {
        (share.adapter, server): share.percent for share in before for server in share.servers
    }
    newest = before[0].adapter if before else ""
    pairs = set()
    for share in shares:
        for server in share.servers:
            percent = percents.get((share.adapter, server), -1)
            takes_back = percent > 0 and share.adapter != newest
            if share.percent > percent and not takes_back:
                pairs.add((share.adapter, server))
    return pairs


def raised_over(
    route: Route, now: Mapping[str, Route], then: Mapping[str, Route]
) -> set[tuple[str, str]]:
    """Return the pairs that a route raises over the routes of now and of the begin of an apply.

    What a restart takes away and brings back is not raised.
    """
    former = (routes.get(route.alias) for routes in (now, then))
    now_raised, then_raised = (
        raised_pairs(route.shares, each.shares if each else ()) for each in former
    )
    return now_raised & then_raised
