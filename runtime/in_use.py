"""Who uses what, and what cannot be told: asked before anything is deleted."""

from collections import Counter
from collections.abc import Collection
from pathlib import Path

from fleet.errors import EngineError
from fleet.resources import State
from runtime.engines.records import Records
from runtime.gateway.control import LocalGateways


async def doubts(
    live: State, gateways: LocalGateways, state_dir: Path, hosts: Collection[str]
) -> tuple[str, ...]:
    """Return why it is not known what every server holds and every gateway serves.

    Each is a sentence without its full stop; none: all is known.

    Args:
        live: What was observed.
        gateways: Those of the fleet; one that does not run serves nobody.
        state_dir: Where servers that fleetctl started are recorded.
        hosts: The declared hosts, whose servers `live` covers.
    """
    found = [f"Server {name}: {why}" for name, why in live.unknown_servers.items()]
    if live.routes_unknown:
        found.append(f"The routes: {live.routes_unknown}")
    found += [
        f"Server {record.name} runs on host {record.host}, which is no longer declared"
        for record in Records(state_dir / "servers").all()
        if record.host not in hosts and record.leader() is not None
    ]
    try:
        table, _ = await gateways.read()
    except EngineError:
        return tuple(found)  # then the routes are unknown, too
    for sight in await gateways.look():
        if sight.problem:
            found.append(f"Gateway {sight.name}: {sight.problem}")
        elif sight.digest is not None and sight.digest != table.digest:
            found.append(f"Gateway {sight.name} serves other routes than the newest")
    return tuple(each.rstrip(".") for each in found)


async def in_flight(gateways: LocalGateways) -> dict[str, int]:
    """Return the requests in flight by full adapter name, over all gateways.

    Raises:
        EngineError: a running gateway does not say.
    """
    counts: Counter[str] = Counter()
    for (_, adapter), count in (await gateways.everything_in_flight()).items():
        counts[adapter] += count
    return dict(counts)
