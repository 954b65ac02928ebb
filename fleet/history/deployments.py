"""List the deployments of an adapter version: person, server, share of traffic."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fleet.history.entry import Entry
from fleet.names import AdapterName, adapter_of_address, server_of_address


@dataclass(frozen=True, slots=True)
class Deployment:
    """One thing that happened to a version."""

    time: datetime
    by: str
    what: str
    """Such as `loaded on llama3_8b-rack1-gpu0` or `10 % of the traffic`."""


def deployments_of(entries: Iterable[Entry], name: AdapterName) -> Iterator[Deployment]:
    """Yield what happened to a version, oldest first; a share only when it changed."""
    begun: dict[str, Mapping[str, Any]] = {}
    share: int | None = None
    for entry in entries:
        data = entry.data
        match entry.kind:
            case "step_started":
                begun[data["step"]] = data["operation"]
                continue
            case "step_finished":
                operation = begun.pop(data["step"], data.get("operation", {}))
            case "rolled_back" if data["alias"] == name.alias:
                if data["to"] == str(name):
                    yield Deployment(entry.time, entry.by, "rolled back to")
                    share = 100
                elif share:
                    reason = f": {data['reason']}" if data.get("reason") else ""
                    yield Deployment(entry.time, entry.by, f"rolled back{reason}")
                    share = 0
                continue
            case "adopted" if adapter_of_address(str(data["address"])) == str(name):
                server = server_of_address(str(data["address"]))
                yield Deployment(entry.time, entry.by, f"found on {server} and adopted")
                continue
            case _:
                continue
        now = _share(operation, name)
        if now is not None and now != (share or 0):
            yield Deployment(entry.time, entry.by, f"{now} % of the traffic")
        share = share if now is None else now
        loaded = _loaded(operation, name)
        if loaded:
            yield Deployment(entry.time, entry.by, loaded)


def carried_out(entries: Iterable[Entry], plan_id: str) -> datetime | None:
    """Return when a plan was carried out to its end, if another one has begun since.

    Such a plan may match what is live by chance: it was reviewed for another moment.
    """
    ended: datetime | None = None
    since = False
    for entry in entries:
        match entry.kind:
            case "apply_finished" if entry.data["plan_id"] == plan_id:
                ended = entry.time if entry.data["result"] == "converged" else None
                since = False
            case "apply_started" if ended is not None:
                since = since or entry.data["plan_id"] != plan_id
            case _:
                pass
    return ended if since else None


def _share(operation: Mapping[str, Any], name: AdapterName) -> int | None:
    """Return a version's percentage on its alias's route; None: about something else."""
    route = operation.get("route", {})
    if operation.get("verb") == "delete_route" and route.get("alias") == name.alias:
        return 0
    if operation.get("verb") != "set_route" or route.get("alias") != name.alias:
        return None
    return next((int(s["percent"]) for s in route["shares"] if s["adapter"] == str(name)), 0)


def _loaded(operation: Mapping[str, Any], name: AdapterName) -> str:
    adapter = operation.get("adapter", {})
    words = {"load": "loaded on", "unload": "unloaded from"}.get(operation.get("verb", ""))
    if words is None or adapter.get("adapter") != str(name):
        return ""
    return f"{words} {adapter['server']}"
