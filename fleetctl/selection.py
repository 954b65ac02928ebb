"""Checks what a person selects against what there is: a slip must not read as "no changes"."""

from collections.abc import Sequence

import click

from fleet.errors import FleetError, did_you_mean, problem
from fleet.names import AdapterName, client_of, name_in_address
from fleet.plan import Plan
from fleet.planning import TargetPattern, parse_criteria
from fleet.resources import LoadedAdapter, Route, Server
from fleet.spec import FleetSpec
from plans.wording import capitalized


def criteria(texts: Sequence[str]) -> tuple[TargetPattern, ...]:
    """Read `--select` options.

    Raises:
        click.UsageError: an option is not of the form FIELD=VALUE.
    """
    try:
        return parse_criteria(texts)
    except FleetError as error:
        told = (f"{each.detail} {capitalized(each.hint)}" for each in error.diagnostics)
        raise click.UsageError(f"--select: {' '.join(told)}") from None


def require_known(wanted: Sequence[TargetPattern], fleet: FleetSpec, plan: Plan) -> None:
    """Refuse criteria that name nothing in the fleet or the plan.

    Raises:
        FleetError: FC5013, one names nothing.
    """
    for each in wanted:
        known = _known(each, fleet, plan)
        if each.value not in known:
            raise FleetError(
                problem(
                    "FC5013",
                    "Selection names nothing",
                    f"There is no {each.field} `{each.value}` in fleet {fleet.name}, "
                    "neither declared nor in the plan.",
                    hint=did_you_mean(each.value, sorted(known)),
                )
            )


def _known(criterion: TargetPattern, fleet: FleetSpec, plan: Plan) -> set[str]:
    resources = [part for each in plan.changes for part in (each.before, each.after) if part]
    match criterion.field:
        case "client":
            found = set(fleet.clients) | {each.client for each in plan.impacts}
            return found | {
                client_of(name_in_address(each.address).partition("/")[0])
                for each in plan.changes
                if each.address.startswith(("route/", "key/", "adapter/"))
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
            return servers | held | {each.server for each in plan.capacity}


def _alias(adapter: str) -> str:
    try:
        return AdapterName.parse(adapter).alias
    except ValueError:
        return adapter
