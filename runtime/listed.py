"""Which resident versions have been lost by the servers that should hold them."""

import asyncio
from collections.abc import Iterable

from fleet.errors import EngineError
from runtime.gateway.table import RoutingTable, ShareEntry
from runtime.transport import JsonClient

SHOW_S = 0.5
"""How long a server may take to list what it holds; a rollback waits for this."""


async def lost(table: RoutingTable, shares: Iterable[ShareEntry]) -> frozenset[str]:
    """Return the versions of which every server answers that it does not hold them.

    A server that does not answer in `SHOW_S` seconds says nothing: its versions are not lost.

    Args:
        table: Says where servers are.
        shares: The versions of an alias.
    """
    held = [each for each in shares if each.servers]
    names = sorted({name for each in held for name in each.servers})
    shown = await asyncio.gather(*(_listed(table.servers.get(name, "")) for name in names))
    listed = dict(zip(names, shown, strict=True))
    return frozenset(
        each.adapter
        for each in held
        if all(
            (there := listed[name]) is not None and each.adapter not in there
            for name in each.servers
        )
    )


async def _listed(url: str) -> frozenset[str] | None:
    if not url:
        return None
    try:
        async with JsonClient(url, timeout_s=SHOW_S) as client:
            shown = await client.get("/v1/models", attempts=1)
        return frozenset(str(each["id"]) for each in shown["data"])
    except (EngineError, KeyError, TypeError):
        return None
