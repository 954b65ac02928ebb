"""Tell which versions have passed a smoke test, and which need a pass before a route may change.

A pass holds for the bytes, the server and its launch, or its boot where it shows no launch, as an
attached server. Routes that are live already stay.
"""

from collections.abc import Iterator

from fleet.history import History
from fleet.names import Address
from fleet.resources import LoadedAdapter, Route, State


def passed_in(history: History, desired: State, live: State) -> frozenset[Address]:
    """Return the desired adapters with a recorded smoke test of these bytes, server and launch.

    Where a server shows neither launch nor boot, now or then, the ledger's starts and stops decide.
    """
    answering = {**live.boots, **live.launches}
    return frozenset(
        address
        for address, adapter in desired.resources.items()
        if isinstance(adapter, LoadedAdapter)
        if (passed := history.passes.get(adapter.server, {}).get(adapter.adapter))
        if passed.digest == adapter.digest
        if passed.launch in (None, answering.get(adapter.server, passed.launch))
    )


def pairs_in(route: Route) -> tuple[tuple[str, str], ...]:
    """Return the pairs of version and server that a route names, those with 0 percent too."""
    return tuple((share.adapter, server) for share in route.shares for server in share.servers)


def raised(route: Route, before: Route | None) -> Iterator[tuple[str, str]]:
    """Yield the pairs of version and server that a route names newly or gives more traffic.

    A version that answers already, and only gets back what a newer version loses, is left out: a
    way back waits for nothing. `before`: the live route; None: there is none.
    """
    live = {share.adapter: share for share in before.shares} if before else {}
    newest = before.shares[0].adapter if before else ""
    for share in route.shares:
        was = live.get(share.adapter)
        gets_more = was is not None and share.percent > was.percent
        takes_back = was is not None and was.percent > 0 and share.adapter != newest
        for server in share.servers:
            if was is None or server not in was.servers or (gets_more and not takes_back):
                yield share.adapter, server
