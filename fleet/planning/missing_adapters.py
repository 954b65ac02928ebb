"""Words the adapters that a running server lacks: outages, unless its plug-in answers for them."""

from collections.abc import Mapping

from fleet.history import History
from fleet.names import Address
from fleet.resources import State


def why_missing(
    server: str,
    missing: tuple[Address, ...],
    history: History,
    live: State,
    damaged: Mapping[str, str],
) -> str:
    """Return the event by which a running server has lost adapters, and whether clients notice.

    `damaged`: by path as servers list it: the damage of the copy that servers load from.
    """
    stale = stale_routes(server, live)
    event = _event(history.boots.get(server), live.boots.get(server), stale)
    # Where no gateway sends a request to the server, its resolver answers no client.
    loadable = sum(is_resolved(address, history, live, damaged) for address in missing)
    answered = 0 if stale else loadable
    if answered == len(missing):
        lack = "answered by the resolver until loaded again"
    else:
        lack = f"missing, {answered} of them answered by the resolver" if answered else "missing"
    return f"{event}; {number_of(len(missing), 'adapter')} {lack}{stale}"


def _event(before: str | None, boot: str | None, stale: str) -> str:
    if stale or (before and boot and before != boot):
        return "the server was restarted"
    if not before or not boot:
        return "adapters were unloaded, or the server was restarted and shows no start time"
    return "adapters were unloaded by others, or a run ended before it loaded them"


def stale_routes(server: str, live: State) -> str:
    """Return the end of a sentence: the routes name another launch; empty where they do not."""
    routed, answers = live.routed_launches.get(server, ""), live.launches.get(server, "")
    if not routed or routed == answers:
        return ""
    return f"; the routes name launch {routed}, so that no gateway sends it a request"


def is_resolved(
    address: Address, history: History, live: State, damaged: Mapping[str, str]
) -> bool:
    """Say whether the resolver of a server answers requests for an unlisted adapter.

    Bytes other than the established ones count as no answer, where the ledger knows the adapter.
    """
    adapter = live.resolvable.get(address)
    return (
        adapter is not None
        and adapter == history.established.get(address, adapter)
        and adapter.path not in damaged
    )


def number_of(count: int, noun: str) -> str:
    """Return such as `2 adapters are`."""
    return f"{count} {noun} is" if count == 1 else f"{count} {noun}s are"
