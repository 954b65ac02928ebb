"""Gather the facts of the page of a server: its place, versions, usage, and vLLM's own figures."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from fleet.capacity import HOURS
from fleet.codec import plain
from fleet.errors import FleetError
from fleet.names import adapter_address, alias_of, client_of, version_of
from fleet.usage import Operator, UsageCell
from runtime.engines.vllm_api import ServerMetrics, read_metrics
from runtime.json_client import JsonClient
from runtime.usage.store import UsageStore
from runtime.web.facts import Document, Heading
from runtime.web.gather import heading
from runtime.web.snapshot import FleetSnapshot
from runtime.web.usage import HourFacts, UsageFacts, hour_facts, usage_facts

ASK_S: Final = 1.0
"""Upper bound of the time in which a server answers with its figures. Seconds."""


@dataclass(frozen=True, slots=True)
class ServerPage:
    """The page `/servers/SERVER`."""

    heading: Heading
    server: str
    state: str
    """`up`, `unknown`, or `down`: placed, and not there."""
    detail: str
    """Why the state is unknown; empty: it is known."""
    host: str
    devices: tuple[str, ...]
    base: str
    release: str
    """Release of vLLM; empty: not known."""
    boxes: tuple[Document, ...]
    """Its devices with their memory, as on the fleet page."""
    panel: Document
    """Slots and declared load, as on the fleet page; empty: it has no place."""
    busy: float | None
    """Work of the last full hour as a part of its capacity; None: not known."""
    figures: ServerMetrics
    """Of now, by vLLM; None: not known."""
    usage: UsageFacts
    hours: tuple[HourFacts, ...]
    versions: tuple[Document, ...]


def server_page(
    seen: FleetSnapshot,
    scope: Operator,
    now: datetime,
    name: str,
    busy: Mapping[str, float],
    state_dir: Path,
) -> ServerPage | None:
    """Return the facts of a server; None: there is no such server. Asks the server. Blocks."""
    live = seen.status.live
    server, detail = live.servers().get(name), live.unknown_servers.get(name)
    places = [
        (row["host"], group["boxes"], panel)
        for row in seen.hosts
        for group in row["groups"]
        for panel in group["panels"]
        if panel["server"] == name
    ]
    if server is None and detail is None and not places:
        return None
    host, boxes, panel = places[0] if places else ("", (), {})
    url = live.urls.get(name, "")
    cells = _cells(state_dir, scope, seen.usage.since, name)
    return ServerPage(
        heading=heading(seen, scope, now),
        server=name,
        state="unknown" if detail is not None else "up" if server else "down",
        detail=detail or "",
        host=server.host if server else host,
        devices=(server.devices if server else ()) or tuple(box["device"] for box in boxes),
        base=server.base if server else panel.get("base", ""),
        release=live.versions.get(name, ""),
        boxes=tuple(boxes),
        panel=panel,
        busy=busy.get(name),
        figures=asyncio.run(_figures(url)) if server and url else ServerMetrics(),
        usage=usage_facts(cells),
        hours=hour_facts(seen.usage.since, cells),
        versions=tuple(_versions(seen, name, cells)),
    )


async def _figures(url: str) -> ServerMetrics:
    http = JsonClient(url)
    try:
        return await read_metrics(http, ASK_S, attempts=1)
    finally:
        await http.close()


def _cells(state_dir: Path, scope: Operator, since: datetime, server: str) -> tuple[UsageCell, ...]:
    """Return the live requests of the last day; none where the store cannot be read."""
    until = since + timedelta(hours=HOURS)
    try:
        with closing(UsageStore(state_dir)) as store:
            return store.cells(scope, since, until, by=("version",), server=server)
    except FleetError:  # the reading's notes say why
        return ()


def _versions(
    seen: FleetSnapshot, server: str, cells: tuple[UsageCell, ...]
) -> Iterator[dict[str, Any]]:
    """Yield the versions that the server lists, or that routes send there, by name."""
    live = seen.status.live
    loaded = {item.adapter: item for item in live.adapters().values() if item.server == server}
    percent = {
        share.adapter: share.percent
        for route in seen.routes.values()
        for share in route.shares
        if server in share.servers
    }
    for name in sorted({*loaded, *percent}):
        is_ours = name in percent or loaded[name].parts is not None
        figures = usage_facts(cell for cell in cells if cell.version == name)
        yield {
            "adapter": name,
            "alias": alias_of(name) if is_ours else None,
            "client": client_of(name) if is_ours else None,
            "version": version_of(name) if is_ours else None,
            "percent": percent.get(name),
            "loaded": name in loaded if live.knows(adapter_address(name, server)) else None,
            "digest": loaded[name].digest if name in loaded else None,
            **plain(figures),
        }
