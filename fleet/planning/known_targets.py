"""Check that selected clients, adapters and servers exist: a typing error is no empty plan."""

from collections.abc import Sequence

from fleet.errors import FleetError, did_you_mean, problem
from fleet.names import AdapterName
from fleet.plan import Plan
from fleet.planning.target import TargetPattern
from fleet.resources import LoadedAdapter, Route, Server
from fleet.spec import FleetSpec


def require_known_targets(wanted: Sequence[TargetPattern], fleet: FleetSpec, plan: Plan) -> None:
    """Refuse criteria that name nothing in the fleet or the plan.

    Raises:
        FleetError: FC5013, one has an unknown name.
    """
    for criterion in wanted:
        known = _known(criterion, fleet, plan)
        if criterion.value not in known:
            raise FleetError(
                problem(
                    "FC5013",
                    "Selection names nothing",
                    f"There is no {criterion.field} `{criterion.value}` in fleet {fleet.name}, "
                    "neither declared nor in the plan.",
                    hint=did_you_mean(criterion.value, sorted(known)),
                )
            )


def _known(criterion: TargetPattern, fleet: FleetSpec, plan: Plan) -> set[str]:
    resources = [part for change in plan.changes for part in (change.before, change.after) if part]
    match criterion.field:
        case "client":
            found = set(fleet.clients) | {impact.client for impact in plan.impacts}
            return found | {
                change.address.split("/")[1].partition("-")[0]
                for change in plan.changes
                if change.address.startswith(("route/", "key/", "adapter/"))
            }
        case "adapter":
            found = set(fleet.adapters) | set(fleet.versions)
            for part in resources:
                if isinstance(part, Route):
                    found.add(part.alias)
                elif isinstance(part, LoadedAdapter):
                    found |= {part.adapter, _alias(part.adapter)}
            return found
        case "server":
            servers = {part.name for part in resources if isinstance(part, Server)}
            held = {part.server for part in resources if isinstance(part, LoadedAdapter)}
            return servers | held | {use.server for use in plan.capacity}


def _alias(adapter: str) -> str:
    try:
        return AdapterName.parse(adapter).alias
    except ValueError:
        return adapter
