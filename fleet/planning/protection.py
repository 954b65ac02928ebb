"""Refuse plans that end aliases with `prevent_destroy`."""

from collections.abc import Iterator, Mapping

from fleet.codes import SUMMARIES
from fleet.errors import ConfigError, Diagnostic
from fleet.history import History
from fleet.names import client_of
from fleet.plan import Plan, Reason
from fleet.resources import Route
from fleet.spec import FleetSpec

FLAG = "prevent_destroy"


def require_kept(plan: Plan, fleet: FleetSpec, history: History) -> None:
    """Refuse a plan that ends a protected alias: its route goes, and its versions are unloaded.

    Protected is what the declarations say, and what they said at the last apply: who deletes a
    client deletes its protection with it. An alias that is renamed goes on.

    Raises:
        ConfigError: FC1279, by protected alias.
    """
    found = tuple(_refused(plan, fleet, history.settings or {}))
    if found:
        raise ConfigError(*found)


def _refused(plan: Plan, fleet: FleetSpec, last: Mapping[str, str]) -> Iterator[Diagnostic]:
    for change in plan.changes:
        route = change.before
        if not isinstance(route, Route) or change.after or change.reason is Reason.RENAMED:
            continue
        client = client_of(route.alias)
        task = route.alias.removeprefix(f"{client}-")
        owner = f"clients.{client}"
        for path in (f"{owner}.{FLAG}", f"{owner}.adapters.{task}.{FLAG}"):
            now = fleet.settings.get(path) == "true"
            if now or last.get(path) == "true":
                place = fleet.declared_at(*path.split(".")) if now else None
                since = "" if now else ", as the last apply recorded it"
                yield Diagnostic(
                    "FC1279",
                    SUMMARIES["FC1279"],
                    f"The plan would end `{route.alias}`: {change.why}. `{path}` is true{since}.",
                    place,
                    hint=f"Declare it again. If it is to go: `{path}: false` first, and apply; "
                    "then delete it.",
                    command="fleetctl apply --auto",
                )
                break
